"""HTTP against real sockets, and what the answers are taken to mean."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.net import certificate, http
from hostctl.common.net.http import Answer
from hostctl.host import ports
from hostctl.instance import health


@contextmanager
def server(reply: bytes, hang: bool = False) -> Iterator[tuple[int, list[bytes]]]:
    """A server that sends `reply` to every connection; gives its port and the requests it saw."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                held.append(connection)
                requests.append(connection.recv(65536))
                if not hang:
                    connection.sendall(reply)
                    connection.shutdown(socket.SHUT_WR)

        held: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], requests
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def test_a_200_is_good_and_the_request_is_as_from_the_edge() -> None:
    with server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (port, requests):
        answer = http.get(port, "shop.test", "/health?x=1", 2)
    assert answer.is_success
    assert requests[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: shop.test\r\n")
    assert b"X-Forwarded-Proto: https\r\n" in requests[0]


def test_a_redirect_tells_where_to() -> None:
    with server(b"HTTP/1.1 301 Moved\r\nlocation: https://shop.test/\r\n\r\n") as (port, _):
        assert http.get(port, "shop.test", "/", 2) == Answer(301, "https://shop.test/")


def test_nobody_listening_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert http.get(port, "shop.test", "/", 2).why == "refused"


def test_silence_is_a_timeout() -> None:
    with server(b"", hang=True) as (port, _):
        assert http.get(port, "shop.test", "/", 0.2).why == "timeout"


@pytest.mark.parametrize("reply", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"\xff\xfe"])
def test_what_is_no_http_is_no_answer(reply: bytes) -> None:
    with server(reply) as (port, _):
        assert http.get(port, "shop.test", "/", 2).status == 0


def test_a_failed_handshake_is_told_apart() -> None:
    with server(b"\x15\x03\x03\x00\x02\x02\x50") as (
        port,
        _,
    ):  # alert: internal error, as Caddy without a certificate
        assert http.get(port, "shop.test", "/", 2, over_tls=True).why == "tls"


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_fail(head: bytes) -> None:
    assert 0 <= http.parse(head).status <= 999


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(301, "https://shop.test/health"), "force_ssl"),
        (Answer(302, "/users/log_in"), "without logging in"),
        (Answer(400), "check_origin"),
        (Answer(403), "login"),
        (Answer(404), "health.path"),
        (Answer(500), "deploy logs"),
        (Answer(0, why="timeout", detail="no answer within 2 s"), "no answer within 2 s"),
    ],
)
def test_each_wrong_answer_is_explained(answer: Answer, said: str) -> None:
    assert said in health.explain(answer, "shop.test", "/health")


def test_connections_of_a_port_are_counted_in_both_families() -> None:
    table = """  sl  local_address rem_address   st tx_queue
   0: 0100007F:4E20 0100007F:D2F0 01 00000000:00000000
   1: 0100007F:4E20 00000000:0000 0A 00000000:00000000
   2: 0100007F:D2F0 0100007F:4E20 01 00000000:00000000
   3: 0000000000000000FFFF00000100007F:4E20 0000000000000000FFFF00000100007F:D2F1 01 0
"""
    assert ports.count(table, 20000) == 2


def test_a_real_connection_is_seen_and_gone_when_it_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert ports.connections(port) == 0
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.accept()
            assert ports.connections(port) == 1
            assert not ports.usable(port)
            accepted.close()
    assert ports.connections(port) == 0


KEY = ec.generate_private_key(ec.SECP256R1())


@given(st.datetimes(datetime(1951, 1, 1), datetime(2200, 1, 1)), st.integers(1, 2**100))
def test_the_end_of_a_certificate_is_read_from_its_bytes(end: datetime, serial: int) -> None:
    end = end.replace(microsecond=0, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.test")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), serial, end - timedelta(days=30), end)
    der = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert certificate.not_after(der) == end.timestamp()


@given(st.binary(max_size=300))
def test_what_is_no_certificate_is_a_value_error_at_most(data: bytes) -> None:
    with suppress(ValueError):
        certificate.not_after(data)


def test_status_loads_no_library_that_takes_longer_than_it() -> None:
    asked = "import sys, hostctl.verbs.status, hostctl.instance.health, hostctl.host.host; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert "hostctl.common.net.http" in loaded
    assert not {"http.client", "ssl", "email", "xml.etree.ElementTree"} & set(loaded)
