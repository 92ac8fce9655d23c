"""A server that fails on purpose, in one way at a time."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

Behaviour = Callable[[socket.socket, bytes], bool]  # the body that was posted; whether to go on


def answer(client: socket.socket, body: bytes, status: str = "200 OK", more: str = "") -> None:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    client.sendall(head.encode() + body)


def good(client: socket.socket, body: bytes) -> bool:
    answer(client, body)
    return True


def close_silently_after_answer(client: socket.socket, body: bytes) -> bool:
    answer(client, body)
    return False


def close_announced(client: socket.socket, body: bytes) -> bool:
    answer(client, body, more="connection: close\r\n")
    return True  # and stays open: the client must believe the header


def close_after_request(client: socket.socket, body: bytes) -> bool:
    return False


def reset_after_request(client: socket.socket, body: bytes) -> bool:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def cut_the_answer(client: socket.socket, body: bytes) -> bool:
    client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort")
    return False


def cut_the_head(client: socket.socket, body: bytes) -> bool:
    client.sendall(b"HTTP/1.1 200 OK\r\nconte")
    return False


def error_500(client: socket.socket, body: bytes) -> bool:
    answer(client, b"no", "500 Internal Server Error")
    return True


def wrong_echo(client: socket.socket, body: bytes) -> bool:
    answer(client, body[:-1] + b"!")
    return True


def nonsense(client: socket.socket, body: bytes) -> bool:
    client.sendall(b"220 mail.test ESMTP\r\n\r\n")
    return False


def chunked(client: socket.socket, body: bytes) -> bool:
    pieces = [body[:5], body[5:]] if len(body) > 5 else [b'{"version":', b"9}"]
    client.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for piece in pieces:
        client.sendall(f"{len(piece):x};x=y\r\n".encode() + piece + b"\r\n")
    client.sendall(b"0\r\ntrailer: x\r\n\r\n")
    return True


def hang(client: socket.socket, body: bytes) -> bool:
    client.recv(1)  # until the client gives up
    return False


def read_request(stream: BinaryIO) -> bytes | None:
    head = stream.readline()
    while head and not head.endswith(b"\r\n\r\n"):
        head += stream.readline()
    if not head:
        return None
    length = re.search(rb"content-length: (\d+)", head)
    return stream.read(int(length[1])) if length else b""


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    requests = 0

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = behaviour
        self.tls = tls

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that give up are part of the tests


class Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        client = self.server.tls.wrap_socket(self.request, server_side=True) if self.server.tls else self.request
        with contextlib.closing(client), client.makefile("rb") as stream:
            while (body := read_request(stream)) is not None:
                self.server.requests += 1
                if not self.server.behaviour(client, body):
                    return


@contextmanager
def serving(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[tuple[Server, str]]:
    """The server, and its address."""
    with Server(behaviour, tls) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server, f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
