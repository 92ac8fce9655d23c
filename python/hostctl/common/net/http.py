"""HTTP as a client: one request and its answer. Time and size have limits, and no redirect is followed.

`request` returns a whole answer. `get` asks this machine and reads the head of the answer alone, without http.client
and ssl: their import takes longer than all that `status` may take.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from hostctl.common.net import tls

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

LOOPBACK = "127.0.0.1"
LONGEST_HEAD = 64 << 10  # bytes
# of a request from this machine: the app takes it for one that came through the edge
PROBE = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": LOOPBACK,
    "User-Agent": "homeport",
    "Accept": "*/*",
    "Connection": "close",
}


class Server(NamedTuple):
    """Whom to ask. The certificate must be for `host`; `address` is where to connect if that is elsewhere, or a
    connection."""

    host: str
    port: int = 80
    tls: ssl.SSLContext | None = None
    address: tuple[str, int] | socket.socket | None = None

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.tls else 80) else f"{name}:{self.port}"


class Limits(NamedTuple):
    """Seconds for a connection, TLS included; seconds for the request and its answer, however slowly it comes; bytes of
    the answer's body, of which the rest is an error or, unless `whole`, not read.
    """

    connect: float = 5.0
    total: float = 30.0
    body: int = 64 << 20
    whole: bool = True


class Response(NamedTuple):
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class MalformedAnswerError(OSError):
    """The answer is not HTTP, ends too early, or is longer than its limit."""


def request(
    server: Server,
    method: str,
    target: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    limits: Limits,
) -> Response:
    """Send a request and return the answer, whatever its status. Raises OSError without one within the limits."""
    import http.client

    connection = http.client.HTTPConnection(server.host, server.port)
    with _connected(server, limits.connect) as opened, _within(opened, limits.total):
        connection.sock = opened
        try:
            connection.request(method, target, body, {"Host": server.authority, **(headers or {})})
            with contextlib.closing(connection.getresponse()) as response:
                return Response(response.status, _headers(response), _body(response, limits))
        except http.client.HTTPException as error:
            if isinstance(error, OSError):
                raise
            raise MalformedAnswerError(f"{type(error).__name__}: {error}") from error


def load() -> None:
    """Import what `request` needs: a process that forks does it once, and not in every child."""
    import http.client  # noqa: F401


def _connected(server: Server, timeout: float) -> socket.socket:
    address = server.address or (server.host, server.port)
    if isinstance(address, socket.socket):
        return address
    plain = socket.create_connection(address, timeout)
    with _closed_on_error(plain):
        # head and body are two packets: the second does not wait for the first's acknowledgement
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server.tls.wrap_socket(plain, server_hostname=server.host) if server.tls else plain


@contextlib.contextmanager
def _closed_on_error(opened: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opened.close()
        raise


@contextlib.contextmanager
def _within(opened: socket.socket, seconds: float) -> Iterator[None]:
    """Cut the connection when the time is up: a timeout of the socket alone begins anew with every byte."""
    opened.settimeout(seconds)
    deadline = time.monotonic() + seconds
    timer = threading.Timer(seconds, _cut, (opened,))
    timer.daemon = True
    timer.start()
    try:
        yield
    except OSError as error:
        if time.monotonic() >= deadline:
            raise TimeoutError(f"no answer within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()


def _cut(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


def _headers(response: HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def _body(response: HTTPResponse, limits: Limits) -> bytes:
    if not limits.whole:
        return response.read(limits.body)
    body = response.read(limits.body + 1)
    if len(body) > limits.body:
        raise MalformedAnswerError(f"the answer is longer than {limits.body} bytes")
    # a bounded read takes a body that was cut short for a whole one
    if response.length:
        raise MalformedAnswerError(f"the answer ended {response.length} bytes early")
    return body


# ---------------------------------------------------------------------------------------------- the head alone


class Answer(NamedTuple):
    """What came back.

    Without a status (0), `why` is refused, timeout, tls or closed, and `detail` says more.
    """

    status: int
    location: str = ""
    why: str = ""
    detail: str = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def get(
    port: int, host: str, path: str, timeout: float, over_tls: bool = False, headers: Mapping[str, str] | None = None
) -> Answer:
    """GET http(s)://127.0.0.1:port/path as if for `host`, in at most `timeout` seconds. Raises nothing."""
    deadline = time.monotonic() + timeout
    server = Server(host, port, tls.unverified_context() if over_tls else None, (LOOPBACK, port))
    try:
        with _connected(server, timeout) as opened:
            fields = {"Host": host, **PROBE, **(headers or {})}
            lines = (f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", "")
            opened.sendall("\r\n".join(lines).encode())
            return parse(_head(opened, deadline))
    except TimeoutError:
        return Answer(0, why="timeout", detail=f"no answer within {timeout:g} s")
    except ConnectionRefusedError:
        return Answer(0, why="refused", detail="nothing listens there yet")
    except OSError as error:
        return _failed(error, over_tls)


def _failed(error: OSError, over_tls: bool) -> Answer:
    if over_tls:
        import ssl

        if isinstance(error, ssl.SSLError):
            return Answer(0, why="tls", detail=error.reason or str(error))
    return Answer(0, why="closed", detail=str(error))


def _head(opened: socket.socket, deadline: float) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < LONGEST_HEAD:
        opened.settimeout(max(0.001, deadline - time.monotonic()))
        piece = opened.recv(8192)
        if not piece:
            break
        head += piece
    return head


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
