"""A receiver of notices: a real HTTP or HTTPS server that keeps what it gets, and answers as it is told to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from homeport.sandbox.certificates import issue


class Got(NamedTuple):
    path: str
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver(ThreadingHTTPServer):
    """`answers` are the statuses of the next answers, 200 after them; `says` is the text of each."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), _Handler)
        self.got: list[Got] = []
        self.answers: list[int] = []
        self.says = "ok"
        self.scheme = "http"

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.server_address[0]!s}:{self.server_address[1]}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, since it does not trust the certificate, is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.got.append(Got(self.path, dict(self.headers), body))
        status = self.server.answers.pop(0) if self.server.answers else 200
        said = self.server.says.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        if status in (301, 302, 307):
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def listening(address: str = "127.0.0.1", directory: Path | None = None) -> Iterator[Receiver]:
    """A receiver at the address; with a directory over HTTPS, its authority's certificate being in `ca.pem` there."""
    with Receiver(address) as receiver:
        if directory is not None:
            _secured(receiver, address, directory)
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


def _secured(receiver: Receiver, address: str, directory: Path) -> None:
    made = issue(address)
    for name, text in (("ca", made.ca), ("certificate", made.certificate), ("key", made.key)):
        (directory / f"{name}.pem").write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True, do_handshake_on_connect=False)
    receiver.scheme = "https"
