"""The sockets that a unit's processes listen on, and whose a port is, from the kernel's tables in /proc."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostctl.host.boundary.peers import belongs

LISTEN = "0A"  # of TCP: include/net/tcp_states.h
BOUND = "07"  # of UDP: a socket without a peer
ACCEPTS = 0x10000  # the flag of a Unix socket that listens, __SO_ACCEPTCON
INTERNET = ("tcp", "tcp6", "udp", "udp6")
TCP = INTERNET[:2]
OWN, NOBODY, FOREIGN = "own", "none", "foreign"  # whose a port is


class Socket(NamedTuple):
    """A listening socket. `address` is "" for a Unix socket."""

    protocol: str
    address: str
    port: int

    @property
    def is_public(self) -> bool:
        """Whether another machine can reach it."""
        if not self.address:
            return False
        address = ipaddress.ip_address(self.address)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return not (mapped or address).is_loopback

    def __str__(self) -> str:
        if not self.address:
            return "a Unix socket"
        name = f"[{self.address}]" if ":" in self.address else self.address
        return f"{name}:{self.port}" + (" (UDP)" if self.protocol.startswith("udp") else "")


def of_group(group: str, proc: Path = Path("/proc")) -> list[Socket]:
    """The sockets of all processes of a control group, except those in a network namespace of their own."""
    found: set[Socket] = set()
    for process in _processes(group, proc):
        with suppress(OSError):  # the process has ended meanwhile
            if (process / "ns/net").readlink() == (proc / "self/ns/net").readlink():
                found |= set(of_process(process, inodes(process)))
    return sorted(found)


def holder(port: int, group: str, proc: Path = Path("/proc")) -> str:
    """Whose a TCP port of this host is: OWN if all who listen on it, at any address, are of the control group; FOREIGN
    if one is not; NOBODY if none listens.
    """
    inodes = {fields[9] for fields in _rows(proc) if fields[3] == LISTEN and place(fields[1])[1] == port}
    if not inodes:
        return NOBODY
    return OWN if inodes <= _sockets(group, proc) else FOREIGN


def is_peer(connection: socket.socket, group: str, proc: Path = Path("/proc")) -> bool:
    """Whether a process of the control group made this TCP connection from this host."""
    ends = _end(*connection.getpeername()[:2]), _end(*connection.getsockname()[:2])
    made = {row[9] for row in _rows(proc) if (_end(*place(row[1])), _end(*place(row[2]))) == ends}
    return bool(made) and made <= _sockets(group, proc)


def _end(address: str, port: int) -> tuple[str, int]:
    """An end of a connection, an IPv4 address that a socket of IPv6 has as IPv4."""
    return address.lower().removeprefix("::ffff:"), port


def _rows(proc: Path) -> Iterator[list[str]]:
    """The sockets in the tables of TCP, in their columns."""
    for protocol in TCP:
        with suppress(OSError):
            rows = (line.split() for line in (proc / "net" / protocol).read_text().splitlines()[1:])
            yield from (fields for fields in rows if len(fields) > 9)


def _sockets(group: str, proc: Path) -> set[str]:
    """The inodes of the sockets that the processes of a control group have open."""
    found: set[str] = set()
    for process in _processes(group, proc):
        with suppress(OSError):  # the process has ended meanwhile
            found |= inodes(process)
    return found


def _processes(group: str, proc: Path) -> Iterator[Path]:
    for path in proc.iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                if belongs((path / "cgroup").read_text(), group):
                    yield path


def inodes(process: Path) -> set[str]:
    """The inodes of the sockets that a process has open. Raises OSError if it has ended."""
    found = set()
    for path in (process / "fd").iterdir():
        with suppress(OSError):
            if match := re.fullmatch(r"socket:\[(\d+)\]", str(path.readlink())):
                found.add(match[1])
    return found


def of_process(process: Path, sockets: set[str]) -> Iterator[Socket]:
    """The listening sockets among those with these inodes, in the namespace of a process, a directory of /proc."""
    low = ephemeral()
    for protocol in INTERNET:
        with suppress(OSError):
            yield from internet(protocol, (process / "net" / protocol).read_text().splitlines()[1:], sockets, low)
    with suppress(OSError):
        yield from unix((process / "net/unix").read_text().splitlines()[1:], sockets)


def of_kernel(proc: Path, held: set[str], known: set[str]) -> Iterator[Socket]:
    """The listening sockets among the `known` that no process holds: WireGuard's and NFS's, for instance. Also on an
    ephemeral port: the kernel itself asks no server from there.
    """
    for protocol in INTERNET:
        with suppress(OSError):
            rows = (proc / "self/net" / protocol).read_text().splitlines()[1:]
            yield from internet(protocol, rows, known - held, 65_536)


def all_inodes(proc: Path) -> set[str]:
    """The inodes of all sockets of TCP and UDP in the network namespace of this process."""
    found: set[str] = set()
    for protocol in INTERNET:
        with suppress(OSError):
            rows = (line.split() for line in (proc / "self/net" / protocol).read_text().splitlines()[1:])
            found |= {fields[9] for fields in rows if len(fields) > 9}
    return found


def ephemeral(path: Path = Path("/proc/sys/net/ipv4/ip_local_port_range")) -> int:
    """The first ephemeral port: the kernel assigns those to clients."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def internet(protocol: str, rows: Iterable[str], inodes: set[str], low: int) -> Iterator[Socket]:
    """The listening sockets in the rows of /proc/net/tcp and the like. A UDP socket on an ephemeral port (from `low`
    on) is a client that waits for an answer, and does not count.
    """
    for fields in map(str.split, rows):
        if len(fields) < 10 or fields[9] not in inodes:
            continue
        address, port = place(fields[1])
        served = fields[3] == LISTEN if protocol.startswith("tcp") else fields[3] == BOUND and 0 < port < low
        if served:
            yield Socket(protocol, address, port)


def place(text: str) -> tuple[str, int]:
    """Parse an address and port such as 0100007F:1F90: 32-bit words in the byte order of this machine."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)), int(port, 16)


def unix(rows: Iterable[str], inodes: set[str]) -> Iterator[Socket]:
    """The listening Unix sockets in the rows of /proc/net/unix."""
    for fields in map(str.split, rows):
        if len(fields) >= 7 and fields[6] in inodes and int(fields[3], 16) & ACCEPTS:
            yield Socket("unix", "", 0)
