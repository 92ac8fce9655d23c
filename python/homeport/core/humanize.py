"""Formats bytes and durations for people. Imports nothing, because the playbook's processes load it."""

from __future__ import annotations


def size(count: float) -> str:
    """`2.1 kB` for 2138."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """`90 seconds`; from two units on in the larger one: `2.5 minutes`, `3.0 hours`, `2.0 days`."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
