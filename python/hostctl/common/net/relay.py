"""Copies bytes between a connection and a pair of pipes, such as those of ssh, in both directions at once."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

SIZE = 1 << 16  # bytes, as many as a pipe holds


def carry(connection: socket.socket, source: int, sink: int) -> None:
    """Copy until either side ends. `source` is read and `sink` is written; neither is closed."""
    # a thread per direction: with one for both, two relays with full pipes could wait for each other
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
