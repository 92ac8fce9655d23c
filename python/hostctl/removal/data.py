"""The data of an app that is removed: a final backup, then the deletion of what is in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from hostctl import engines
from hostctl.backup import epochs, settings, state
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core import actor
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.boundary import trees
from hostctl.host.boundary.handles import Directory
from hostctl.host.host import Host
from hostctl.verbs import backup as backup_verb


class Bucket(TypedDict):
    """The place of the backup in S3."""

    bucket: str
    prefix: str
    encrypted: bool


def streams(app: App) -> bool:
    """Whether this host's data is backed up: a backup is configured, and no other host has taken it over."""
    return settings.configured(app) is not None and epochs.superseded(app) is None


def units(app: App) -> list[str]:
    """The units that make the final backup, which stop last."""
    return [app.stream_unit, app.cluster_unit, app.tail_unit]


def databases(app: App, host: Host) -> list[Json]:
    """The app's databases here: `name`, `path` and `bytes`, which is None while their server does not answer."""
    engine = engines.of(app)
    return engine.removals.databases(app, host) if engine else []


def bucket(app: App) -> Bucket | None:
    """The bucket and prefix of the backup, and whether it is encrypted; None without a backup."""
    backup = settings.configured(app)
    return backup and {"bucket": backup.bucket, "prefix": backup.prefix, "encrypted": backup.encrypted}


# ---------------------------------------------------------------------------------------------- the final backup


def check_bucket(app: App, host: Host) -> None:
    """Check the bucket before the app is stopped. Raises HostError."""
    if streams(app):
        backup_verb.perform(app, "check", actor.Actor("", ""), host)


def snapshot(app: App, host: Host) -> None:
    """Take a whole backup while the app serves, so that `send_all` has little left to send. Raises HostError."""
    if streams(app):
        engines.require(app).removals.snapshot(app, host)


def send_all(app: App, host: Host) -> bool:
    """Send what the stopped app wrote since the snapshot to S3, check that it is there, and stop the database.

    Returns whether there is a backup of this host's data. Raises HostError when S3 does not have everything.
    """
    if not streams(app):
        stop(app, host)
        return False
    engines.require(app).removals.finish(app, host)
    return True


def stop(app: App, host: Host) -> None:
    """Stop the database and its replication. Raises HostError."""
    if engine := engines.of(app):
        engine.removals.stop(app, host)


def resume(app: App, host: Host) -> None:
    """Undo `send_all` without waiting for S3, which may be what failed. Raises HostError."""
    state.resume(app)
    if engine := engines.of(app):
        engine.removals.resume(app, host)


# ---------------------------------------------------------------------------------------------- removal of the data


def keep(app: App) -> None:
    """Leave the data ready for provisioning to use it again."""
    state.resume(app)


def remove(app: App, proven: bool, kept: Path) -> list[Json]:
    """Delete the data if the backup is `proven` to hold it, and move the rest below `kept`. Returns what was moved."""
    if proven:
        _delete(app)
    moved = {app.data: "data", app.cluster: "cluster", app.aside: "aside"} | ({} if proven else {app.points: "points"})
    for source, name in moved.items():
        if disk.has_files(source):
            _move(source, kept / name)
    return [
        {"path": str(kept / name), "bytes": disk.size(kept / name)} for name in moved.values() if (kept / name).exists()
    ]


def _move(source: Path, target: Path) -> None:
    """Move a directory that a lesser user owns, in one of root's."""
    with Directory(source.parent) as before, Directory(target.parent) as after:
        trees.move(before, source.name, after, target.name)


def _delete(app: App) -> None:
    with suppress(HostError):  # a database.json that cannot be read: nothing is deleted
        if engine := engines.of(app):
            engine.removals.delete(app)
