"""CAA records, asked of a real server over UDP and TCP."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from dns.exception import DNSException
from dns.message import from_wire, make_query
from hypothesis import given
from hypothesis import strategies as st

from homeport.doctor import caa

NXDOMAIN, SERVFAIL = 3, 2
TRUNCATED = 0x0200


def record(tag: bytes, value: bytes) -> bytes:
    data = bytes([0, len(tag)]) + tag + value
    return b"\xc0\x0c" + struct.pack(">HHIH", caa.CAA, 1, 60, len(data)) + data


def name_of(query: bytes) -> str:
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels)


Zone = dict[str, list[bytes]]


def answer(query: bytes, zone: Zone, code: int = 0, flags: int = 0) -> bytes:
    """The answer to a query: what the zone has; for everything else `code`."""
    records = zone.get(name_of(query), [])
    status = 0 if records else code
    end = query.index(b"\0", 12) + 5
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | status | flags, 1, len(records), 0, 0)
    return head + query[12:end] + b"".join(records)


@contextmanager
def server(zone: Zone, code: int = 0, flags: int = 0, asked: list[str] | None = None) -> Iterator[caa.Server]:
    """Answers for what the zone has; for everything else with `code`, by default nothing there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            with suppress(OSError):
                while (received := listening.recvfrom(4096))[0]:
                    query, whom = received
                    if asked is not None:
                        asked.append(name_of(query))
                    listening.sendto(answer(query, zone, code, flags), whom)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        where = listening.getsockname()
        yield where
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", where)
        thread.join()


@contextmanager
def tcp_server(zone: Zone, where: caa.Server) -> Iterator[None]:
    """Answers one query over TCP, at the address of a UDP server."""
    with socket.create_server(where) as listening:

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as connection:
                query = connection.recv(4096)[2:]
                whole = answer(query, zone)
                connection.sendall(len(whole).to_bytes(2) + whole)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join()


def test_the_nearest_name_upwards_decides() -> None:
    zone = {"acme.test": [record(b"issue", b"ca.example; policy=ev"), record(b"iodef", b"mailto:a@b")]}
    with server(zone) as there:
        assert caa.issuers("www.shop.acme.test", [there]) == ["ca.example"]
        assert caa.issuers("other.test", [there]) == []


def test_a_record_of_the_name_itself_hides_those_above_it() -> None:
    zone = {"shop.test": [record(b"Issue", b"letsencrypt.org")], "test": [record(b"issue", b";")]}
    with server(zone) as there:
        assert caa.issuers("shop.test", [there]) == ["letsencrypt.org"]
        assert caa.issuers("else.test", [there]) == [""]


def test_a_name_that_does_not_exist_has_no_records_of_its_own() -> None:
    with server({}, code=NXDOMAIN) as there:
        assert caa.issuers("shop.test", [there]) == []


def test_no_answer_is_told_apart_from_no_record() -> None:
    with server({}, code=SERVFAIL) as there:
        assert caa.issuers("shop.test", [there]) is None
    with server({"shop.test": [record(b"issue", b"x")]}, flags=TRUNCATED) as there:
        assert caa.issuers("shop.test", [there]) is None
    assert caa.issuers("shop.test", []) is None


def test_the_second_server_is_asked_when_the_first_is_broken() -> None:
    zone = {"shop.test": [record(b"issue", b"letsencrypt.org")]}
    with server({}, code=SERVFAIL) as broken, server(zone) as there:
        assert caa.issuers("shop.test", [broken, there]) == ["letsencrypt.org"]


def test_the_systems_own_servers_are_asked(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("search x\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver\n")
    assert caa.nameservers(tmp_path / "resolv.conf") == [("192.0.2.1", 53), ("2001:db8::1", 53)]
    assert caa.nameservers(tmp_path / "none") == []


def test_an_answer_that_udp_cuts_short_is_asked_for_over_tcp() -> None:
    """An answer of 70 records is longer than a UDP answer may be."""
    zone = {"shop.test": [record(b"issue", f"ca-{number}.example".encode()) for number in range(70)]}
    with server(zone, flags=TRUNCATED) as there, tcp_server(zone, there):
        assert caa.issuers("shop.test", [there]) == [f"ca-{number}.example" for number in range(70)]


def test_the_records_of_an_alias_count() -> None:
    target = b"\x05alias\x04test\x00"
    cname = b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, len(target)) + target
    data = b"\0\x05issue" + b"ca.example"
    issue = target + struct.pack(">HHIH", caa.CAA, 1, 60, len(data)) + data
    with server({"shop.test": [cname, issue]}) as there:
        assert caa.issuers("shop.test", [there]) == ["ca.example"]


@pytest.mark.parametrize("name", ["shop..test", "x" * 64 + ".test", f"{'x.' * 130}test"])
def test_a_name_that_dns_cannot_hold_has_no_answer(name: str) -> None:
    with server({}) as there:
        assert caa.issuers(name, [there]) is None


@given(st.binary(max_size=80))
def test_no_answer_does_more_than_fail(packet: bytes) -> None:
    with suppress(DNSException):
        assert isinstance(caa.issue_values(from_wire(packet)), list)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_no_caa_record_does_more_than_fail(tag: bytes, value: bytes) -> None:
    query = make_query("shop.test", "CAA").to_wire()
    with suppress(DNSException):
        found = caa.issue_values(from_wire(answer(query, {"shop.test": [record(tag, value)]})))
        assert len(found) == (tag.lower() == b"issue")


@pytest.mark.parametrize("name", ["shop.test", "bücher.test"])
def test_a_question_names_what_it_asks_for(name: str) -> None:
    asked: list[str] = []
    with server({}, asked=asked) as there:
        caa.issuers(name, [there])
    assert asked[0] == name.encode("idna").decode()
