"""Bytes as a person reads them. A module of its own, so that the playbook's processes load nothing else for it."""

from __future__ import annotations


def size(count: float) -> str:
    """`2.1 kB` for 2138."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
