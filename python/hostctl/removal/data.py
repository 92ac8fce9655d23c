"""An app's data when the app leaves: all of it on S3 one last time, and nothing deleted here but what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hostctl import engines
from hostctl.backup import epochs, settings, state
from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core import actor, moving
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite import file_swap
from hostctl.verbs import backup


def streams(app: App) -> bool:
    """Whether this host's data is what the backup holds: not without a backup, nor once another host has taken over."""
    return settings.configured(app) is not None and epochs.superseded(app) is None


def units(app: App) -> list[str]:
    """What a final backup is made with: the last of the app's units that stop."""
    return [app.stream_unit, app.cluster_unit, app.tail_unit]


def told(app: App, host: Host) -> list[Json]:
    """The app's databases here: `name`, `path`, and `bytes`, None where only a server that does not answer knows."""
    found = settings.load(app)
    if found is not None:
        return [{"name": one.name, "path": str(one.path), "bytes": _size(one.path)} for one in found.databases]
    if settings.engine(app) != "postgres":
        return []
    summary = engines.require(app).backups.summary(app, host)
    return [{"name": summary["name"], "path": summary["path"], "bytes": summary["bytes"]}]


def bucket(app: App) -> Json | None:
    """Where the backup lies, and the key that it is encrypted by no one but its owner knows; None without one."""
    found = settings.configured(app)
    return found and {"bucket": found.bucket, "prefix": found.prefix, "encrypted": found.encrypted}


# ---------------------------------------------------------------------------------------------- the final backup


def ask(app: App, host: Host) -> None:
    """Whether the bucket takes what it is given: better known before the app is stopped. Raises HostError."""
    if streams(app):
        backup.verb(app, "check", actor.Who("", ""), host)


def snapshot(app: App, host: Host) -> None:
    """A whole backup while the app serves: what is left for `send_all` is little. Raises HostError."""
    # files that an earlier removal left have no stream: what S3 lacks of them is sent when they are let go
    if streams(app) and (settings.engine(app) == "postgres" or host.systemd.show(app.stream_unit)[0].runs):
        engines.require(app).backups.run(app, host)


def send_all(app: App, host: Host) -> bool:
    """What the app, stopped now, has written since: proven to be on S3, and nothing streams after it.

    Returns whether it is: not without a backup of this host's data. Raises HostError when S3 has not got it all.
    """
    if not streams(app):
        stop(app, host)
    elif settings.engine(app) == "postgres":
        from hostctl.postgres import replication as archive

        archive.flush(app, host)
        stop(app, host)
    else:
        from hostctl.sqlite import replication

        replication.pause(app, host)
    return streams(app)


def stop(app: App, host: Host) -> None:
    """End what streams and serves the data, as it wants to be ended. Raises HostError."""
    if settings.engine(app) == "postgres":
        from hostctl.postgres import cluster

        cluster.stop(app, host)
        host.systemd.stop(app.tail_unit)
    elif settings.engine(app) == settings.SQLITE:
        state.pause(app, "the app is being removed")
        host.systemd.stop(app.stream_unit)


def go_on(app: App, host: Host) -> None:
    """The undo of `send_all`, which does not wait for an S3 that may be what failed. Raises HostError."""
    state.unpause(app)
    if settings.engine(app) == settings.SQLITE:
        from hostctl.sqlite import replication

        replication.resume(app, host)
    elif engine := engines.of(app):
        engine.streams.verb(app, "start", host)


# ---------------------------------------------------------------------------------------------- what was sent goes


def keep(app: App) -> None:
    """Leave the data so that provisioning takes it up again."""
    state.unpause(app)


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
        if (found := settings.load(app)) is not None:
            for path in (each for one in found.databases for each in (one.path, *file_swap.beside(one.path))):
                _remove(path)
    for path in app.cluster.glob("*"):
        if path != app.cluster / "aside":
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        files.remove_tree(path)
    else:
        path.unlink(missing_ok=True)


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
