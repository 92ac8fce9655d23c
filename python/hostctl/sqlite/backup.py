"""SQLite's side of `hostctl APP backup`: files, and Litestream."""

from __future__ import annotations

from hostctl import backup, behind, databases, lineage, litestream, marks, points, status, stream
from hostctl import drill as drills
from hostctl import sqlite_drill as drilling
from hostctl.databases import DAILY, Databases
from hostctl.edges import Edges
from hostctl.files import Json
from hostctl.layout import App
from hostctl.lock import MOMENT

OPEN = (
    "the app may checkpoint by itself (database.unsafe_checkpoints: allow): a crash of Litestream under writes can "
    "leave a hole in the backup until a snapshot is forced after it, which only a drill finds; wal_autocheckpoint = 0 "
    "in the app ends that"
)
EPOCHS = 10  # of the newest that a list looks into: each takes a few requests


def summary(app: App, edges: Edges) -> Json:
    """The main database's path and sizes, and its backup. As Backups has it."""
    dbs = databases.require(app)
    main = dbs.main.path
    told: Json = {"engine": "sqlite", "path": str(main), "bytes": drilling.size(main), "unsafe": dbs.unsafe}
    told |= {"disk": status.space(main.parent) if main.parent.is_dir() else None, "log_bytes": drilling.log_size(main)}
    return told | {"backup": _backup(app, dbs, edges)}


def _backup(app: App, dbs: Databases, edges: Edges) -> Json | None:
    told = backup.common(app, edges, app.stream_unit)
    if told is None:
        return None
    told |= {"lag": behind.lag(app, dbs, told["watch"])}
    return told | ({"schedule": DAILY, "left_open": OPEN} if dbs.unsafe else {})


def listing(app: App) -> Json:
    """Restore points on this host, and per epoch of the bucket what can be restored."""
    dbs, bucket, last = databases.require(app), lineage.bucket(app), drills.last(app)
    told: Json = {"points": points.every(app), "last_good": last["last_good"] if last else None}
    return told | {"epochs": [_of_epoch(app, dbs, epoch) for epoch in lineage.chain(bucket)[:EPOCHS]]}


def _of_epoch(app: App, dbs: Databases, epoch: lineage.Epoch) -> Json:
    ranges = {database.name: litestream.ranges(app, dbs, epoch.epoch, database.name) for database in dbs.databases}
    told: Json = {"epoch": epoch.epoch, "host": epoch.host, "opened": epoch.opened, "parent": epoch.parent}
    return told | {"databases": ranges}


def run(app: App, edges: Edges) -> None:
    """Restart the stream with a snapshot in between. Raises HostError."""
    stream.restart(app, edges, "deploy backup run")


def drill(app: App, edges: Edges) -> Json:
    """Restore and compare every file. Raises HostError."""
    return drilling.run(app, edges)


def takeover(app: App, edges: Edges) -> lineage.Epoch:
    """This host's files are streamed into an epoch of its own from now on. Raises HostError."""
    with stream.working(app, patience=MOMENT):
        # what runs, if anything does, streams into the epoch of before
        edges.systemd.stop(app.stream_unit)
        try:
            return lineage.takeover(app)
        finally:
            marks.admit(app)
            edges.systemd.start(app.stream_unit)


def check(app: App) -> Json:
    """Litestream has no check of its own."""
    return {}
