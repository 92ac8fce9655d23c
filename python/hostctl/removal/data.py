"""An app's data when the app leaves: all of it on S3 one last time, and nothing deleted here but what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hostctl import engines
from hostctl.backup import epochs, settings, state
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core import actor, moving
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.verbs import backup


def streams(app: App) -> bool:
    """Whether this host's data is what the backup holds: not without a backup, nor once another host has taken over."""
    return settings.configured(app) is not None and epochs.superseded(app) is None


def units(app: App) -> list[str]:
    """What a final backup is made with: the last of the app's units that stop."""
    return [app.stream_unit, app.cluster_unit, app.tail_unit]


def databases(app: App, host: Host) -> list[Json]:
    """The app's databases here: `name`, `path` and `bytes`, which is None while their server does not answer."""
    engine = engines.of(app)
    return engine.removals.databases(app, host) if engine else []


def bucket(app: App) -> Json | None:
    """Where the backup lies, and the key that it is encrypted by no one but its owner knows; None without one."""
    found = settings.configured(app)
    return found and {"bucket": found.bucket, "prefix": found.prefix, "encrypted": found.encrypted}


# ---------------------------------------------------------------------------------------------- the final backup


def ask(app: App, host: Host) -> None:
    """Whether the bucket takes what it is given: better known before the app is stopped. Raises HostError."""
    if streams(app):
        backup.verb(app, "check", actor.Actor("", ""), host)


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


# ---------------------------------------------------------------------------------------------- what was sent goes


def keep(app: App) -> None:
    """Leave the data so that provisioning takes it up again."""
    state.resume(app)


def let_go(app: App, proven: bool, grave: Path) -> list[Json]:
    """Delete what is `proven` to be on S3; whatever else the app wrote is moved below `grave`, and told."""
    if proven:
        _delete(app)
    moved = {app.data: "data", app.cluster: "cluster", app.aside: "aside"} | ({} if proven else {app.points: "points"})
    for source, name in moved.items():
        if _holds(source):
            moving.move(source, grave / name)
    return [
        {"path": str(grave / name), "bytes": size(grave / name)} for name in moved.values() if (grave / name).exists()
    ]


def _delete(app: App) -> None:
    with suppress(HostError):  # a database.json that cannot be read: nothing is deleted
        if engine := engines.of(app):
            engine.removals.delete(app)


def _holds(place: Path) -> bool:
    """Whether there is any file in it: empty directories are nobody's data."""
    return next(_files(place), None) is not None


def _files(place: Path) -> Iterator[Path]:
    return (path for path in place.rglob("*") if path.is_symlink() or not path.is_dir())


def size(place: Path) -> int:
    """The bytes of all files in a directory, or of one file."""
    return sum(_size(path) for path in ([place] if place.is_file() else _files(place)))


def _size(path: Path) -> int:
    return path.lstat().st_size if path.is_symlink() or path.exists() else 0
