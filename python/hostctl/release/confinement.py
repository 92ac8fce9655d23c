"""The confinement of the instance (user, limits, hardening) for other commands of the release, such as migrations."""

from __future__ import annotations

from hostctl.common.errors import FAILED, HostError
from hostctl.release import envfile

INSTANCE_PORTS = range(20_000, 30_000)
CONSOLE_PORT = f"tcp:{envfile.DIST_PORT}"
# systemd.resource-control(5): what no process of an app can listen on, but for what its own unit allows
DENIED_PORTS = (f"tcp:{INSTANCE_PORTS.start}-{INSTANCE_PORTS.stop - 1}", CONSOLE_PORT)

# What makes a unit a service that lives on, rather than what its processes may do.
# fmt: off
LIFECYCLE = (
    "Exec", "Restart", "Timeout", "StartLimit", "Watchdog", "KillSignal", "FinalKillSignal", "SendSIG",
    "Type", "NotifyAccess", "PIDFile", "BusName", "RemainAfterExit", "SuccessExitStatus", "Sockets",
    "FileDescriptorStore", "RuntimeMax", "Standard",
)
# fmt: on


def properties(unit_text: str, release: str) -> list[str]:
    """The [Service] settings of a unit file (as `systemctl cat` prints it) that a transient unit can share."""
    found: list[str] = []
    section = ""
    for line in _joined(unit_text):
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(LIFECYCLE):
            key, _, value = line.partition("=")
            found.append(f"{key.strip()}={_expanded(value.strip(), release)}")
    return found


def _joined(text: str) -> list[str]:
    """Lines without comments, those that end in a backslash joined with the next."""
    lines = [line.strip() for line in text.splitlines()]
    kept = "\n".join(line for line in lines if line and line[0] not in "#;")
    return kept.replace("\\\n", " ").splitlines()


def _expanded(value: str, release: str) -> str:
    """%i as systemd expands it; systemd-run expands no specifier in a property."""
    return value.replace("%%", "\0").replace("%i", release).replace("\0", "%")


def without(lines: list[str], *settings: str) -> list[str]:
    """The lines but for those that begin so."""
    return [line for line in lines if not line.startswith(settings)]


def require(unit_text: str, release: str, user: str, unit: str) -> list[str]:
    """The settings of `properties`, with the user's own and `NoNewPrivileges=` in any case, and no port of an instance.

    Raises HostError where there is no unit, or where it is another user's: a program without them would run as root.
    """
    found = properties(unit_text, release)
    named = {line.partition("=")[2] for line in found if line.startswith("User=")}
    groups = {line.partition("=")[2] for line in found if line.startswith("Group=")}
    if named != {user} or not groups <= {user} or user == "root":
        what = f"{unit} does not say that it runs as {user}: nothing is run in its place"
        raise HostError(what, unit, "deploy provision writes the unit again; deploy status", FAILED)
    own = [f"User={user}", f"Group={user}", "NoNewPrivileges=yes"]
    return [*without(found, "SocketBind"), *own, *(f"SocketBindDeny={ports}" for ports in DENIED_PORTS)]
