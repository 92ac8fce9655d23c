"""Who may run what. sudo lets the deploy user run hostctl; here it is decided for which app and verb."""

from __future__ import annotations

from collections.abc import Sequence

from hostctl.common.errors import USAGE, HostError

# These act on units and on other apps: only root itself, through systemd or provisioning, runs them.
INTERNAL = frozenset(
    {
        "accessories",
        "boot",
        "edge",
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
    """Raises HostError (usage) unless this user may run the verb.

    `sudo_user` is who called sudo (None without sudo); root itself may do everything, others of uid 0 what
    the app's `deployers` may.
    """
    if verb in ("spread", "collect") and sudo_user is None:
        return
    if uid != 0:
        raise HostError("hostctl needs root", "hostctl", "sudo hostctl ...", USAGE)
    if sudo_user is None or sudo_user == "root":
        return
    if verb in INTERNAL:
        raise HostError(f"{verb} is run by the host itself", f"sudo by {sudo_user}", "use another verb", USAGE)
    if sudo_user not in deployers:
        raise HostError(
            f"{sudo_user} may not touch this app",
            "deployers in app.json",
            "add the user to the app's deployers and provision",
            USAGE,
        )
