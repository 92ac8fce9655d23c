"""CAA records, which the system's resolver does not ask for: one question over UDP (RFC 1035, RFC 8659)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CAA = 257
PORT = 53
TIMEOUT_SECONDS = 3.0
LARGEST = 1232  # bytes of an answer that no way cuts in two
TRUNCATED, REFUSALS, NO_SUCH_NAME = 0x0200, 0x000F, 3

Server = tuple[str, int]


def issuers(name: str, servers: list[Server] | None = None) -> list[str] | None:
    """Who may certify a name: of the nearest name upwards that says so. Empty for anybody, None without an answer."""
    labels = name.split(".")
    for at in range(len(labels)):
        found = ask(".".join(labels[at:]), nameservers() if servers is None else servers)
        if found is None or found:
            return found
    return []


def nameservers(conf: Path = Path("/etc/resolv.conf")) -> list[Server]:
    """The system's own."""
    with suppress(OSError):
        words = [line.split() for line in conf.read_text().splitlines()]
        return [(each[1], PORT) for each in words if len(each) > 1 and each[0] == "nameserver"]
    return []


def ask(name: str, servers: list[Server]) -> list[str] | None:
    """The values of a name's own `issue` records, from the first server that answers; None when none does."""
    for server in servers:
        with suppress(OSError, ValueError, IndexError, struct.error):
            return answered(_exchange(question(name, os.urandom(2)), server))
    return None


def _exchange(packet: bytes, server: Server) -> bytes:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(TIMEOUT_SECONDS)
        asking.connect(server)
        asking.send(packet)
        answer = asking.recv(65535)
    if answer[:2] != packet[:2]:
        raise ValueError("an answer to another question")
    return answer


def question(name: str, number: bytes) -> bytes:
    """A query for CAA, recursion desired, with room for a larger answer (EDNS, RFC 6891)."""
    labels = [label.encode("idna") for label in name.split(".")]
    where = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    extra = b"\0" + struct.pack(">HHIH", 41, LARGEST, 0, 0)
    return number + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 1) + where + struct.pack(">HH", CAA, 1) + extra


def answered(packet: bytes) -> list[str]:
    """The `issue` values of an answer. Raises ValueError for one that was cut short or refused."""
    _, flags, questions, answers = struct.unpack(">HHHH", packet[:8])
    if flags & TRUNCATED or flags & REFUSALS not in (0, NO_SUCH_NAME):
        raise ValueError(f"flags {flags:04x}")
    at = 12
    for _ in range(questions):
        at = _past_name(packet, at) + 4
    return [value for kind, data in _records(packet, at, answers) if kind == CAA for value in _issue(data)]


def _records(packet: bytes, at: int, count: int) -> Iterator[tuple[int, bytes]]:
    for _ in range(count):
        at = _past_name(packet, at)
        kind, _, _, size = struct.unpack(">HHIH", packet[at : at + 10])
        yield kind, packet[at + 10 : at + 10 + size]
        at += 10 + size


def _past_name(packet: bytes, at: int) -> int:
    while size := packet[at]:
        if size & 0xC0:
            return at + 2
        at += 1 + size
    return at + 1


def _issue(data: bytes) -> Iterator[str]:
    """Flags, the tag with its length, the value: the authority's name, and parameters after a semicolon."""
    end = 2 + data[1]
    if data[2:end].lower() == b"issue":
        yield data[end:].decode("ascii", "replace").partition(";")[0].strip().lower()
