"""Carries the bytes of one connection through a pair of pipes, such as those of ssh, both ways at once."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

SIZE = 1 << 16  # bytes, as many as a pipe holds


def carry(connection: socket.socket, source: int, sink: int) -> None:
    """Until either side ends. `source` is read and `sink` is written; neither is closed."""
    # a thread for the way in: were one to do both, two of them could wait for each other with full pipes
    threading.Thread(target=_inward, args=(connection, source), daemon=True).start()
    with contextlib.suppress(OSError):
        while data := connection.recv(SIZE):
            _write(sink, data)


def _inward(connection: socket.socket, source: int) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(source, SIZE):
            connection.sendall(data)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _write(sink: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(sink, left) :]
