"""Reads TLS certificates (DER and PEM), those of files and the one that the edge serves, without an openssl process.

RFC 5280, 4.1: Certificate = SEQUENCE { tbsCertificate = SEQUENCE { [0] version, serialNumber, signature,
issuer, validity = SEQUENCE { notBefore, notAfter }, ... } }.
"""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from typing import NamedTuple

from hostctl.common.net.tls import unverified_context

UTC_TIME = 0x17
VERSION = 0xA0
PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)  # RFC 7468
# the types of a name's parts, best first: commonName, organizationName (RFC 5280, appendix A.1)
NAMES = (b"\x55\x04\x03", b"\x55\x04\x0a")


class Certificate(NamedTuple):
    """The issuer of a certificate, and its validity in seconds since the epoch."""

    issuer: str
    not_before: float
    not_after: float


def read(der: bytes) -> Certificate:
    """Parse a certificate in DER. Raises ValueError for anything else."""
    try:
        fields = _parts(_parts(_parts(der)[0][1])[0][1])
        at = 4 if fields[0][0] == VERSION else 3
        begins, ends = (_seconds(tag, value.decode("ascii")) for tag, value in _parts(fields[at][1])[:2])
        return Certificate(_name(fields[at - 1][1]), begins, ends)
    except IndexError as error:
        raise ValueError(f"not a certificate: {error}") from None


def not_after(der: bytes) -> float:
    """The end of a certificate's validity in seconds since the epoch. Raises ValueError for anything else."""
    return read(der).not_after


def _name(name: bytes) -> str:
    """The readable part of a distinguished name (Name = SEQUENCE of SETs of { type, value }); "" if it has none."""
    found = {}
    for _, part in _parts(name):
        for _, pair in _parts(part):
            (_, kind), (_, value) = _parts(pair)[:2]
            found[kind] = value.decode("utf-8", "replace")
    return next((found[kind] for kind in NAMES if kind in found), "")


def _seconds(tag: int, text: str) -> float:
    """UTCTime has two digits for the year, of 1950 to 2049; GeneralizedTime has four. strptime costs 10 ms to
    import.
    """
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    year, rest = int(text[:4]), [int(text[at : at + 2]) for at in range(4, 14, 2)]
    month, day, hour, minute, second = rest
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of a sequence: tag and content of each."""
    found, at = [], 0
    while at < len(data):
        tag, size, start = data[at], data[at + 1], at + 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[at + 2 : start], "big")
        if start + size > len(data):
            raise IndexError("an element is longer than what holds it")
        found.append((tag, data[start : start + size]))
        at = start + size
    return found


def presented(name: str, timeout: float = 1.0) -> bytes | None:
    """The certificate in DER that the edge presents for a name; None if it presents none."""
    try:
        with (
            socket.create_connection(("127.0.0.1", 443), timeout) as plain,
            unverified_context().wrap_socket(plain, server_hostname=name) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except OSError:
        return None


def served_until(name: str, timeout: float = 1.0) -> float | None:
    """When the certificate that the edge presents for a name expires; None if it presents none."""
    try:
        return not_after(presented(name, timeout) or b"")
    except ValueError:
        return None


def blocks(text: str) -> tuple[list[str], list[str]]:
    """The certificates and the private keys in a text of PEM."""
    found = [(match[1], match[0]) for match in PEM.finditer(text)]
    keys = [block for kind, block in found if kind.endswith("PRIVATE KEY")]
    return [block for kind, block in found if kind == "CERTIFICATE"], keys
