"""The HTTP client, against servers that answer as none should."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from hostctl.common.net import http
from hostctl.common.net.http import Limits, MalformedAnswerError, Server

SHORT = Limits(2.0, 2.0, body=1000)
OK = b"HTTP/1.1 200 OK\r\nX-Kind: Odd\r\nContent-Length: 5\r\n\r\nhello"
Reply = Callable[[socket.socket], None]


def sends(data: bytes) -> Reply:
    return lambda connection: connection.sendall(data)


@contextmanager
def serving(listening: socket.socket, reply: Reply) -> Iterator[list[bytes]]:
    """Replies to every connection, and yields the requests."""
    seen: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                seen.append(connection.recv(65536))
                reply(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()


@contextmanager
def server(reply: Reply) -> Iterator[tuple[Server, list[bytes]]]:
    listening = socket.create_server(("127.0.0.1", 0))
    where = Server("shop.test", address=listening.getsockname())
    with serving(listening, reply) as seen:
        yield where, seen


def test_a_whole_answer_comes_back_and_the_request_names_its_host() -> None:
    with server(sends(OK)) as (where, seen):
        answer = http.request(where, "POST", "/hook?x=1", body=b"told", headers={"X-Key": "1"}, limits=SHORT)
    assert answer == (200, {"x-kind": "Odd", "content-length": "5"}, b"hello")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /hook?x=1 HTTP/1.1"
    assert {b"Host: shop.test", b"X-Key: 1", b"Content-Length: 4"} <= set(lines)
    assert body in (b"", b"told")  # it may come in a packet of its own


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    with server(sends(OK)) as (elsewhere, followed):
        assert isinstance(elsewhere.address, tuple)
        to = f"http://127.0.0.1:{elsewhere.address[1]}/"
        with server(sends(f"HTTP/1.1 {status} To\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())) as (
            where,
            _,
        ):
            answer = http.request(where, "GET", "/", limits=SHORT)
    assert (answer.status, answer.headers["location"], followed) == (status, to, [])


def chunked(*pieces: bytes) -> bytes:
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, id="by its length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001, id="to the end of the connection"),
        pytest.param(chunked(b"x" * 600, b"x" * 600, b""), id="in chunks"),
    ],
)
def test_an_answer_that_is_too_long_is_an_error_or_cut(reply: bytes) -> None:
    with server(sends(reply)) as (where, _):
        with pytest.raises(MalformedAnswerError, match="longer than 1000 bytes"):
            http.request(where, "GET", "/", limits=SHORT)
        assert http.request(where, "GET", "/", limits=SHORT._replace(whole=False)).body == b"x" * 1000


@pytest.mark.parametrize("reply", [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000, chunked(b"x" * 400, b"x" * 600, b"")])
def test_an_answer_as_long_as_allowed_is_whole(reply: bytes) -> None:
    with server(sends(reply)) as (where, _):
        assert http.request(where, "GET", "/", limits=SHORT).body == b"x" * 1000


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", id="by its length"),
        pytest.param(chunked(b"hello")[:-4], id="in a chunk"),
        pytest.param(b"", id="before it begins"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX", id="in its head"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
    ],
)
def test_an_answer_that_ends_early_is_an_error(reply: bytes) -> None:
    with server(sends(reply)) as (where, _):
        try:
            answer = http.request(where, "GET", "/", limits=SHORT)
        except OSError:
            return
    assert answer.body == b""  # a head without an end: http.client takes it for one without a body
    assert reply.endswith(b"\r\nX")


def drips(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    for _ in range(900):
        time.sleep(0.02)
        connection.sendall(b".")


@pytest.mark.parametrize("reply", [pytest.param(drips, id="drips"), pytest.param(lambda _: time.sleep(1), id="hangs")])
def test_time_is_up_however_slowly_the_answer_comes(reply: Reply) -> None:
    with server(reply) as (where, _):
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.3 s"):
            http.request(where, "GET", "/", limits=Limits(2.0, 0.3))
        assert time.monotonic() - begun < 5


def test_a_connection_that_is_open_is_used(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    with serving(listening, sends(OK)) as seen:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        assert http.request(Server("localhost", address=connection), "GET", "/info", limits=SHORT).body == b"hello"
    assert b"\r\nHost: localhost\r\n" in seen[0]
    assert connection.fileno() == -1


@pytest.mark.parametrize(
    ("where", "authority"),
    [
        (Server("a.test"), "a.test"),
        (Server("a.test", 8080), "a.test:8080"),
        (Server("a.test", 443), "a.test:443"),
        (Server("::1", 81), "[::1]:81"),
        (Server("::1"), "[::1]"),
    ],
)
def test_the_host_header_names_a_port_that_is_not_the_usual_one(where: Server, authority: str) -> None:
    assert where.authority == authority


@hypothesis(max_examples=40, deadline=None)
@given(st.one_of(st.binary(max_size=100), st.binary(max_size=100).map(b"HTTP/1.1 200 OK\r\n".__add__)))
def test_no_bytes_do_more_than_fail(reply: bytes) -> None:
    with server(sends(reply)) as (where, _), suppress(OSError):
        assert http.request(where, "GET", "/", limits=SHORT).status >= 100
