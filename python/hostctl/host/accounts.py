"""Users of the host."""

from __future__ import annotations

from hostctl.host.boundary import users


def become(user: str) -> None:
    """Drop the privileges of this process to those of a user, for good; see `boundary.users.become`.

    Raises HostError if there is no such user, and for root.
    """
    users.become(users.find(user))
