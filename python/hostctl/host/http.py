"""One HTTP GET, down to the status line. http.client costs more to import than the whole of status may take."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from hostctl.common import tls

if TYPE_CHECKING:
    pass  # imported late: it costs every verb that needs none

LONGEST_HEAD = 64 << 10


class Answer(NamedTuple):
    """What came back.

    Without a status (0), `why` is refused, timeout, tls or closed, and `detail` says more.
    """

    status: int
    location: str = ""
    why: str = ""
    detail: str = ""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


def get(port: int, host: str, path: str, timeout: float, over_tls: bool = False) -> Answer:
    """GET http(s)://127.0.0.1:port/path as if for `host`, in at most `timeout` seconds. Raises nothing."""
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as plain:
            if not over_tls:
                return _ask(plain, host, path, deadline)
            return _ask_tls(plain, host, path, deadline)
    except TimeoutError:
        return Answer(0, why="timeout", detail=f"no answer within {timeout:g} s")
    except ConnectionRefusedError:
        return Answer(0, why="refused", detail="nothing listens there yet")
    except OSError as error:
        return Answer(0, why="closed", detail=str(error))


def _ask_tls(plain: socket.socket, host: str, path: str, deadline: float) -> Answer:
    import ssl

    try:
        with tls.unverified().wrap_socket(plain, server_hostname=host) as secured:
            return _ask(secured, host, path, deadline)
    except ssl.SSLError as error:
        return Answer(0, why="tls", detail=error.reason or str(error))


def _ask(connection: socket.socket, host: str, path: str, deadline: float) -> Answer:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 127.0.0.1\r\n"
    request += "User-Agent: homeport\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < LONGEST_HEAD:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(8192)
        if not piece:
            break
        head += piece
    return parse(head)


def parse(head: bytes) -> Answer:
    """Status and Location of an answer's head."""
    lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not (words[1].isdigit() and len(words[1]) == 3):
        return Answer(0, why="closed", detail="the connection was closed without an HTTP answer")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            return Answer(int(words[1]), value.strip())
    return Answer(int(words[1]))
