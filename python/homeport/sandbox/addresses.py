"""The addresses of a sandbox: two adjacent ones of 198.51.100.0/24 (RFC 5737, TEST-NET-2, never routed)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

NETWORK = "198.51.100"
GATEWAY = f"{NETWORK}.1"
SUBNET = f"{NETWORK}.0/24"
SLOTS = range(120)
_FIRST = 10


@dataclass(frozen=True)
class Slot:
    """A pair of addresses, and the names of the two links to them on this machine."""

    number: int

    @property
    def host(self) -> str:
        """The address of the host."""
        return f"{NETWORK}.{_FIRST + 2 * self.number}"

    @property
    def services(self) -> str:
        """The address of S3, ACME and DNS."""
        return f"{NETWORK}.{_FIRST + 2 * self.number + 1}"

    @property
    def host_link(self) -> str:
        """The interface of this machine for the link to the host."""
        return f"hpsb{self.number}h"

    @property
    def services_link(self) -> str:
        """The interface of this machine for the link to the services."""
        return f"hpsb{self.number}s"


def allot(taken: Collection[int]) -> Slot | None:
    """The lowest free pair of addresses, or None when all are taken."""
    return next((Slot(number) for number in SLOTS if number not in taken), None)
