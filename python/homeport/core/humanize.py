"""Bytes and times as a person reads them. The playbook's processes load this module and nothing else for it."""

from __future__ import annotations


def size(count: float) -> str:
    """`2.1 kB` for 2138."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """`90 seconds`, and from two minutes on `2.5 minutes`, `3.0 hours`, `2.0 days`: read at a glance."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
