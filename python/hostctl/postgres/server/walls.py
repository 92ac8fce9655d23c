"""The confinement of PostgreSQL's programs beside the live server: servers on copies of the data, and pg_upgrade.

They run on data that the app, or a backup, has written. So each is a transient unit with the walls of the live server's
unit, and sees no other data than what it works on. It ends with the unit or session of the hostctl that started it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import SUPERUSER
from hostctl.release import confinement

STOP = 600  # seconds that the shutdown checkpoint may take
# what is the live server's own
LIVE = ("RuntimeDirectory", "BindPaths=", "OOMScoreAdjust=", "SyslogIdentifier=", "SocketBind")
DESCRIPTION = "Homeport: PostgreSQL on a copy of the data"  # in the journal, in place of the command
FAMILIES = "RestrictAddressFamilies="


def unit(app: App, name: str) -> str:
    """The unit of a program on the directory of that name; no app's name has a dot, so it is no other app's."""
    return app.helper_unit(f"scratch.{name}")


def properties(app: App, host: Host, paths: Sequence[Path], network: bool) -> list[str]:
    """The settings of the unit: `paths` are the directories that it may see and write.

    Only with `network` it reaches the bucket, and has its keys. Raises HostError if the live server has no unit,
    or not one of the user postgres.
    """
    shared = confinement.require(host.systemd.text(app.cluster_unit), "", SUPERUSER, app.cluster_unit)
    own = [f"Description={DESCRIPTION} of {app.name}", *(f"BindPaths={path}" for path in paths)]
    own += [f"Environment={name}={value}" for name, value in cluster.environment().items()]
    own += ["KillSignal=SIGINT", "KillMode=mixed", f"TimeoutStopSec={STOP}", "OOMScoreAdjust=500"]
    if not network:
        shared = confinement.without(shared, FAMILIES, "PrivateNetwork=")
        own += ["PrivateNetwork=yes", f"{FAMILIES}AF_UNIX", f"InaccessiblePaths=-{app.pgbackrest}"]
    parent = host.systemd.own_unit()
    own += [f"BindsTo={parent}"] if parent else []
    return [*confinement.without(shared, *LIVE), *own]
