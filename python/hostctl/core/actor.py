"""The person who requests a change."""

from __future__ import annotations

from typing import NamedTuple


class Actor(NamedTuple):
    """The name of the person, and the address that the request came from, as the audit records them."""

    name: str
    origin: str
