"""An S3 server that answers as a test wishes, for what a real one does not do."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hostctl.backup.settings import Backup, Credentials
from hostctl.common.errors import HostError

# the keys of the examples in the store's documentation
DOCUMENTED = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


class Odd(BaseHTTPRequestHandler):
    """A server that answers as its class is told."""

    status = 200
    headers_sent: tuple[tuple[str, str], ...] = ()
    body = b""
    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.seen.append((self.headers["host"], self.path))
        self.send_response(self.status)
        for name, value in (*self.headers_sent, ("Content-Length", str(len(self.body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Dripping(Odd):
    """One byte of the answer now and then, for ever."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass


@contextmanager
def serving(handler: type[Odd], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on 127.0.0.1; yields its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answering(status: int, body: bytes, *headers: tuple[str, str]) -> type[Odd]:
    return type("Answering", (Odd,), {"status": status, "body": body, "headers_sent": headers, "seen": []})


def at(port: int, scheme: str = "http", **more: object) -> Backup:
    backup = Backup("shop-backups", "shop", "eu-central-1", f"{scheme}://127.0.0.1:{port}", True)
    return backup._replace(**more)  # type: ignore[arg-type]


def refused(act: Callable[[], object]) -> HostError:
    with pytest.raises(HostError) as caught:
        act()
    return caught.value
