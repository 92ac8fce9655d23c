"""SQLite's part of `hostctl APP backup`: files, replicated by Litestream."""

from __future__ import annotations

from hostctl.backup import drill as drills
from hostctl.backup import epochs, restore_points, settings, state
from hostctl.backup import summary as backup_summary
from hostctl.backup.settings import DAILY, Databases
from hostctl.common.documents import DrillResult
from hostctl.common.files import Json
from hostctl.core.lock import MOMENT
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.sqlite.stream import drill as drilling
from hostctl.sqlite.stream import lag, litestream, replication

LEFT_OPEN = (
    "the app may checkpoint by itself (database.unsafe_checkpoints: allow): a crash of Litestream under writes can "
    "leave a hole in the backup until a snapshot is forced after it, which only a drill finds; wal_autocheckpoint = 0 "
    "in the app ends that"
)
EPOCHS = 10  # the newest epochs, which a list reads: each takes a few requests


def summary(app: App, host: Host) -> Json:
    """The main database's path and sizes, and its backup: see `Backups` in engines.py."""
    dbs = settings.require(app)
    main = dbs.main
    return {
        "engine": "sqlite",
        "path": str(main.path),
        "bytes": main.size + main.log_size,
        "unsafe": dbs.unsafe,
        "disk": disk.space(main.directory) if main.directory.is_dir() else None,
        "log_bytes": main.log_size,
        "backup": _backup(app, dbs, host),
    }


def _backup(app: App, dbs: Databases, host: Host) -> Json | None:
    common = backup_summary.common_summary(app, host, app.stream_unit)
    if common is None:
        return None
    unsafe = {"schedule": DAILY, "left_open": LEFT_OPEN} if dbs.unsafe else {}
    return {**common, "lag": lag.lag(app, dbs, common["watch"]), **unsafe}


def listing(app: App) -> Json:
    """The restore points on this host, and the epochs of the bucket with the times that can be restored."""
    dbs, bucket, last = settings.require(app), epochs.bucket(app), drills.last_result(app)
    return {
        "points": restore_points.all_points(app),
        "last_good": last["last_good"] if last else None,
        "epochs": [_of_epoch(app, dbs, epoch) for epoch in epochs.chain(bucket)[:EPOCHS]],
    }


def _of_epoch(app: App, dbs: Databases, epoch: epochs.Epoch) -> Json:
    ranges = {
        database.name: litestream.restorable_range(app, dbs, epoch.epoch, database.name) for database in dbs.databases
    }
    facts = {"epoch": epoch.epoch, "host": epoch.host, "opened": epoch.opened, "parent": epoch.parent}
    return {**facts, "databases": ranges}


def run(app: App, host: Host) -> None:
    """Restart Litestream with a full snapshot in between. Raises HostError."""
    replication.restart(app, host, "deploy backup run")


def drill(app: App, host: Host) -> DrillResult:
    """Restore and compare every file. Raises HostError."""
    return drilling.run(app, host)


def takeover(app: App, host: Host) -> epochs.Epoch:
    """Replicate this host's files into a new epoch, which is current from now on. Raises HostError."""
    with state.exclusive(app, patience=MOMENT):
        # a running Litestream writes to the earlier epoch
        host.systemd.stop(app.stream_unit)
        try:
            return epochs.takeover(app)
        finally:
            state.clear_refusal(app)
            host.systemd.start(app.stream_unit)


def check(app: App) -> Json:
    """Litestream has no check of its own."""
    return {}
