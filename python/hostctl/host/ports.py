"""Counts the connections to a local port, and checks whether a port is free."""

from __future__ import annotations

import socket
from pathlib import Path

ESTABLISHED = "01"
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def connections(port: int, tables: tuple[str, ...] = TABLES) -> int:
    """The number of established connections to a local port."""
    return sum(count(_text(table), port) for table in tables)


def _text(table: str) -> str:
    try:
        return Path(table).read_text()
    except OSError:
        return ""


def count(table: str, port: int) -> int:
    """The number of established connections of a local port in the text of /proc/net/tcp (or tcp6)."""
    wanted = f"{port:04X}"
    rows = (line.split() for line in table.splitlines()[1:])
    return sum(1 for row in rows if len(row) > 3 and row[3] == ESTABLISHED and row[1].rpartition(":")[2] == wanted)


def usable(port: int) -> bool:
    """Whether an instance could listen on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - bound for an instant, never listened on
        except OSError:
            return False
    return True
