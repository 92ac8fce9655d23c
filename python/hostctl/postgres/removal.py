"""PostgreSQL's side of `hostctl APP remove`: the last backup of the cluster, and its deletion."""

from __future__ import annotations

from hostctl.common import files
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres import backup, commands
from hostctl.postgres.archive import replication
from hostctl.postgres.server import cluster


def databases(app: App, host: Host) -> list[Json]:
    """`name`, `path` and `bytes` of the database; no `bytes` while the server does not answer. Raises HostError."""
    summary = backup.summary(app, host)
    return [{name: summary[name] for name in ("name", "path", "bytes")}]


def snapshot(app: App, host: Host) -> None:
    """Take a base backup while the app serves. Raises HostError."""
    backup.run(app, host)


def finish(app: App, host: Host) -> None:
    """Archive all WAL, then stop the server. Raises HostError."""
    replication.archive_all(app, host)
    stop(app, host)


def stop(app: App, host: Host) -> None:
    """Stop the server and the WAL stream. Raises HostError."""
    cluster.stop(app, host)
    host.systemd.stop(app.tail_unit)


def resume(app: App, host: Host) -> None:
    """Start the server and the WAL stream again. Raises HostError."""
    commands.run_action(app, "start", host)


def delete(app: App) -> None:
    """Delete the cluster, except kept data."""
    for path in app.cluster.glob("*"):
        if path != app.cluster / "aside":
            files.remove(path)
