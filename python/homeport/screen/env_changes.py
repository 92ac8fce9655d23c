"""Which variables a release has otherwise than the one before, by name: no value is ever known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def told(changes: Mapping[str, Sequence[str]] | None) -> str:
    """`KEY changed, OTHER added`, the names in order; empty for none, and where they are not known."""
    names = {name: how for how, found in (changes or {}).items() for name in found}
    return ", ".join(f"{name} {names[name]}" for name in sorted(names))
