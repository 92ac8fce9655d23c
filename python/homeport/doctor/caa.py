"""CAA records: the authorities that may certify a name (RFC 8659), which the system's resolver does not ask for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dns.exception import DNSException
from dns.message import Message
from dns.nameserver import Do53Nameserver
from dns.rdatatype import CAA
from dns.resolver import NXDOMAIN, Resolver

PORT = 53
TIMEOUT_SECONDS = 3.0  # per server; TCP is used if an answer does not fit into a UDP packet
LARGEST = 1232  # bytes of a UDP answer that networks do not fragment

Server = tuple[str, int]


def issuers(name: str, servers: list[Server] | None = None) -> list[str] | None:
    """The authorities that may certify a name, by the `issue` records of the name or of its nearest parent with any.

    Empty if every authority may; None if no server answers.
    """
    labels = name.split(".")
    servers = nameservers() if servers is None else servers
    for at in range(len(labels)):
        values = ask(".".join(labels[at:]), servers)
        if values is None or values:
            return values
    return []


def nameservers(conf: Path = Path("/etc/resolv.conf")) -> list[Server]:
    """The system's DNS servers; empty if the file cannot be read."""
    with suppress(DNSException, ValueError):
        return [(str(server), PORT) for server in Resolver(filename=str(conf)).nameservers]
    return []


def ask(name: str, servers: list[Server]) -> list[str] | None:
    """The values of a name's own `issue` records, from the first server that answers; None when none does."""
    try:
        answer = _resolver(servers).resolve(f"{name}.", CAA, search=False, raise_on_no_answer=False)
    except NXDOMAIN:
        return []
    except (DNSException, ValueError):  # ValueError: a name that no query can hold
        return None
    return issue_values(answer.response)


def _resolver(servers: list[Server]) -> Resolver:
    resolver = Resolver(configure=False)
    resolver.nameservers = [Do53Nameserver(address, port) for address, port in servers]
    resolver.timeout, resolver.lifetime = TIMEOUT_SECONDS, TIMEOUT_SECONDS * len(servers)
    resolver.use_edns(0, payload=LARGEST)
    return resolver


def issue_values(message: Message) -> list[str]:
    """The authorities in the `issue` values of an answer; "" stands for no authority."""
    records = [record for rrset in message.answer if rrset.rdtype == CAA for record in rrset]
    values = [record.value.decode("ascii", "replace") for record in records if record.tag.lower() == b"issue"]
    # parameters follow after a semicolon
    return [value.partition(";")[0].strip().lower() for value in values]
