"""Where a service listens, read from the kernel's tables; and what of it another machine can reach."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.host import listeners
from hostctl.host.listeners import Socket

PORTS = st.integers(1, 65_535)


def row(address: str, port: int, state: str = "0A", inode: str = "77") -> str:
    """A row of /proc/net/tcp as this kernel would write it."""
    local, nothing = f"{written(address)}:{port:04X}", "00000000:00000000 00:00000000 00000000"
    return f"  0: {local} 00000000:0000 {state} {nothing}  0 0 {inode} 1"


def written(address: str) -> str:
    packed = ipaddress.ip_address(address).packed
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


@given(st.ip_addresses(), PORTS)
def test_an_address_is_read_as_the_kernel_writes_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    found, number = listeners.place(f"{written(str(address))}:{port:04X}")

    assert (ipaddress.ip_address(found), number) == (address, port)


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("127.0.0.1", False),
        ("127.9.8.7", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("", False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("fe80::1", True),
    ],
)
def test_only_loopback_and_unix_sockets_are_the_hosts_own(address: str, reached: bool) -> None:
    assert Socket("tcp", address, 80).is_public is reached


def test_what_listens_counts_and_what_is_connected_or_anothers_does_not() -> None:
    rows = [
        row("127.0.0.1", 6379),
        row("127.0.0.1", 6380, state="01"),
        row("127.0.0.1", 6381, inode="78"),
        "half a row",
    ]

    assert list(listeners.internet("tcp", rows, {"77"}, 32_768)) == [Socket("tcp", "127.0.0.1", 6379)]


def test_a_udp_socket_that_waits_for_its_own_answers_does_not_count() -> None:
    rows = [row("0.0.0.0", 5353, state="07"), row("0.0.0.0", 40_000, state="07")]

    assert [found.port for found in listeners.internet("udp", rows, {"77"}, 32_768)] == [5353]


def test_a_socket_is_told_as_a_person_writes_it() -> None:
    assert [str(one) for one in (Socket("tcp6", "::", 80), Socket("udp", "127.0.0.1", 53), Socket("unix", "", 0))] == [
        "[::]:80",
        "127.0.0.1:53 (UDP)",
        "a Unix socket",
    ]


@pytest.mark.parametrize(
    ("text", "belongs"),
    [
        ("0::/system.slice/a.service\n", True),
        ("0::/system.slice/a.service/worker\n", True),
        ("0::/system.slice/a.service2\n", False),
        ("1:name=systemd:/system.slice/a.service\n0::/\n", True),
        ("", False),
    ],
)
def test_a_process_is_a_units_in_and_below_its_control_group(text: str, belongs: bool) -> None:
    assert listeners.belongs(text, "/system.slice/a.service") is belongs


def test_no_control_group_is_nobodys() -> None:
    assert not listeners.belongs("0::/\n", "")
    assert not listeners.belongs("0::/\n", "/")


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found.getsockname()[1]


def test_the_sockets_of_real_processes_are_found(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "belongs", lambda text, group: group == "all")

    assert Socket("tcp", "127.0.0.1", listening) in listeners.of_group("all")
    assert listeners.of_group("none") == []


# ---------------------------------------------------------------------------------------------- whose a port is


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is all of the control group `own`; `other` has none."""
    of = {"own": [Path("/proc/self")], "other": []}
    monkeypatch.setattr(listeners, "_processes", lambda group, _: iter(of[group]))


@pytest.mark.parametrize("address", ["127.0.0.1", "::", "::1", "0.0.0.0"])
@pytest.mark.usefixtures("groups")
def test_a_port_is_the_groups_whose_process_listens(address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as found:
        found.bind((address, 0))
        port = found.getsockname()[1]
        assert listeners.holder(port, "own") == listeners.NOBODY
        found.listen()
        assert listeners.holder(port, "own") == listeners.OWN
        assert listeners.holder(port, "other") == listeners.FOREIGN


@pytest.mark.usefixtures("groups")
def test_a_port_on_which_somebody_else_listens_as_well_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as own, socket.socket() as beside:
        own.bind(("127.0.0.1", 0))
        beside.bind(("127.0.0.2", own.getsockname()[1]))
        mine = str(Path(f"/proc/self/fd/{own.fileno()}").readlink())[8:-1]
        monkeypatch.setattr(listeners, "inodes", lambda _: {mine})
        own.listen()
        assert listeners.holder(own.getsockname()[1], "own") == listeners.OWN
        beside.listen()
        assert listeners.holder(own.getsockname()[1], "own") == listeners.FOREIGN


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.usefixtures("groups")
def test_a_connection_is_the_groups_whose_process_made_it(family: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(family) as client:
        address = "::ffff:127.0.0.1" if family == socket.AF_INET6 else "127.0.0.1"
        client.connect((address, server.getsockname()[1]))
        connection, _ = server.accept()
        with connection:
            assert listeners.is_peer(connection, "own")
            assert not listeners.is_peer(connection, "other")
