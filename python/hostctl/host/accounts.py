"""Users of the host."""

from __future__ import annotations

import os
import pwd

from hostctl.common.errors import HostError


def become(user: str) -> None:
    """Drop the privileges of this process to those of a user. Raises HostError if there is no such user."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise HostError(f"there is no user {user}", "/etc/passwd", "deploy provision") from None
    os.chdir("/")
    os.umask(0o077)
    if os.geteuid() != found.pw_uid:
        os.initgroups(user, found.pw_gid)
        os.setgid(found.pw_gid)
        os.setuid(found.pw_uid)
