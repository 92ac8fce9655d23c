"""Who asks for a change, and from where."""

from __future__ import annotations

from typing import NamedTuple


class Who(NamedTuple):
    """Who asks, and from where, for the audit."""

    name: str
    origin: str
