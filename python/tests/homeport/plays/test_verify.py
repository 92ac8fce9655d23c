"""Verification from outside against a real HTTPS server on loopback."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.core.errors import ExitCode, HomeportError
from homeport.deployment import preflight
from homeport.plays.actions import verify


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/sick" else 204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test",
         "-keyout", where / "key.pem", "-out", where / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return where / "cert.pem"


@pytest.fixture
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(verify, "PORT", listening.server_address[1])
    yield
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_a_name_that_answers_with_its_own_certificate_passes(server: None, certificate: Path) -> None:
    assert verify.answer("shop.test", "/health", "127.0.0.1", str(certificate)) == 204


def test_an_answer_that_is_no_success_needs_a_person(server: None, certificate: Path) -> None:
    with pytest.raises(HomeportError, match="503") as raised:
        verify.answer("shop.test", "/sick", "127.0.0.1", str(certificate))
    assert raised.value.code == ExitCode.PERSON


def test_a_certificate_for_another_name_is_not_accepted(server: None, certificate: Path) -> None:
    with pytest.raises(HomeportError, match="does not answer from here"):
        verify.answer("other.test", "/health", "127.0.0.1", str(certificate))


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(server: None) -> None:
    with pytest.raises(HomeportError, match="does not answer from here"):
        verify.answer("shop.test", "/health", "127.0.0.1", None)


def test_a_name_without_an_address_is_told_to_be_pointed_at_the_host() -> None:
    with pytest.raises(HomeportError, match="does not resolve"):
        verify.answer("nowhere.invalid", "/health", None, None)


def test_a_port_that_refuses_is_reachable() -> None:
    assert not preflight.is_filtered("127.0.0.1", 1)


def test_a_name_that_leads_elsewhere_is_warned_of_before_a_certificate_is_asked_for() -> None:
    warnings = list(preflight._domain_warnings(["localhost", "nowhere.invalid"], {"198.51.100.1"}))
    assert "which is not the host" in warnings[0]
    assert "does not resolve" in warnings[1]


def test_a_name_that_leads_to_the_host_is_fine() -> None:
    assert not list(preflight._domain_warnings(["localhost"], preflight.resolve("localhost")))
