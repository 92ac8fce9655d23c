"""Decides which user may run which verb for which app. sudo lets the deploy user run hostctl as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from hostctl.common.errors import USAGE, HostError

# These verbs act on units and on other apps: only root runs them, through systemd or provisioning.
INTERNAL = frozenset(
    {
        "accessories",
        "boot",
        "edge",
        "host",
        "transition",
        "drain",
        "recover",
        "building",
        "spread",
        "collect",
        "stream",
        "remove",
        "seal",
        "notifier",
    }
)


def authorise(verb: str, uid: int, sudo_user: str | None, deployers: Sequence[str]) -> None:
    """Raises HostError (usage) unless the user may run the verb.

    `sudo_user` is the user who called sudo (None without sudo). Root may run everything; a user who came through sudo
    must be one of the app's `deployers`.
    """
    if verb in ("spread", "collect") and sudo_user is None:
        return
    if uid != 0:
        raise HostError("hostctl needs root", "hostctl", "sudo hostctl ...", USAGE)
    if sudo_user is None or sudo_user == "root":
        return
    if verb in INTERNAL:
        raise HostError(f"only the host runs {verb}", f"sudo by {sudo_user}", "use another verb", USAGE)
    if sudo_user not in deployers:
        raise HostError(
            f"{sudo_user} may not touch this app",
            "deployers in app.json",
            "add the user to deployers in deploy.yml, then deploy provision",
            USAGE,
        )
