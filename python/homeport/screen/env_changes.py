"""The names of the variables in which a release differs from the one before. It never has a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def summary(changes: Mapping[str, Sequence[str]] | None) -> str:
    """`KEY changed, OTHER added`, sorted by name; "" if nothing changed or the changes are unknown."""
    names = {name: how for how, changed in (changes or {}).items() for name in changed}
    return ", ".join(f"{name} {names[name]}" for name in sorted(names))
