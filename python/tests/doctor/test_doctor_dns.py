"""CAA records, asked of a real server over UDP."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.doctor import dns

NXDOMAIN, SERVFAIL = 3, 2


def record(tag: bytes, value: bytes) -> bytes:
    data = bytes([0, len(tag)]) + tag + value
    return b"\xc0\x0c" + struct.pack(">HHIH", dns.CAA, 1, 60, len(data)) + data


def name_of(query: bytes) -> str:
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels)


@contextmanager
def server(zone: dict[str, list[bytes]], code: int = 0, flags: int = 0) -> Iterator[dns.Server]:
    """Answers for what the zone has; for everything else with `code`, by default nothing there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            with suppress(OSError):
                while (asked := listening.recvfrom(4096))[0]:
                    query, whom = asked
                    records = zone.get(name_of(query), [])
                    status = 0 if records else code
                    end = query.index(b"\0", 12) + 5
                    head = query[:2] + struct.pack(">HHHHH", 0x8180 | status | flags, 1, len(records), 0, 0)
                    listening.sendto(head + query[12:end] + b"".join(records), whom)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        where = listening.getsockname()
        yield where
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", where)
        thread.join()


def test_the_nearest_name_upwards_decides() -> None:
    zone = {"acme.test": [record(b"issue", b"ca.example; policy=ev"), record(b"iodef", b"mailto:a@b")]}
    with server(zone) as there:
        assert dns.issuers("www.shop.acme.test", [there]) == ["ca.example"]
        assert dns.issuers("other.test", [there]) == []


def test_a_record_of_the_name_itself_hides_those_above_it() -> None:
    zone = {"shop.test": [record(b"Issue", b"letsencrypt.org")], "test": [record(b"issue", b";")]}
    with server(zone) as there:
        assert dns.issuers("shop.test", [there]) == ["letsencrypt.org"]
        assert dns.issuers("else.test", [there]) == [""]


def test_a_name_that_does_not_exist_has_no_records_of_its_own() -> None:
    with server({}, code=NXDOMAIN) as there:
        assert dns.issuers("shop.test", [there]) == []


def test_no_answer_is_told_apart_from_no_record() -> None:
    with server({}, code=SERVFAIL) as there:
        assert dns.issuers("shop.test", [there]) is None
    with server({"shop.test": [record(b"issue", b"x")]}, flags=dns.TRUNCATED) as there:
        assert dns.issuers("shop.test", [there]) is None
    assert dns.issuers("shop.test", []) is None


def test_the_second_server_is_asked_when_the_first_is_broken() -> None:
    zone = {"shop.test": [record(b"issue", b"letsencrypt.org")]}
    with server({}, code=SERVFAIL) as broken, server(zone) as there:
        assert dns.issuers("shop.test", [broken, there]) == ["letsencrypt.org"]


def test_the_systems_own_servers_are_asked(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("search x\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver\n")
    assert dns.nameservers(tmp_path / "resolv.conf") == [("192.0.2.1", 53), ("2001:db8::1", 53)]
    assert dns.nameservers(tmp_path / "none") == []


@given(st.binary(max_size=80))
def test_no_answer_does_more_than_fail(packet: bytes) -> None:
    with suppress(ValueError, IndexError, struct.error):
        assert isinstance(dns.answered(packet), list)


@pytest.mark.parametrize("name", ["shop.test", "bücher.test"])
def test_a_question_names_what_it_asks_for(name: str) -> None:
    assert name_of(dns.question(name, b"ab")) == name.encode("idna").decode()
