"""PostgreSQL's side of `hostctl APP backup`: the summary, the list of what can be restored, base backups, takeovers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import cast

from hostctl.backup import drill as drills
from hostctl.backup import epochs as backup_epochs
from hostctl.backup import restore_points, s3, settings, state
from hostctl.backup import summary as backup_summary
from hostctl.backup.epochs import Epoch
from hostctl.common.documents import (
    ArchiverStatus,
    BackupStatus,
    BaseBackup,
    DrillResult,
    InvalidIndex,
    MonitorResult,
)
from hostctl.common.errors import HostError
from hostctl.common.files import Json, read_json
from hostctl.core.lock import MOMENT
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.postgres import migrate
from hostctl.postgres.archive import drill as cluster_drill
from hostctl.postgres.archive import monitor, pgbackrest, replication, timelines, wal_stream
from hostctl.postgres.archive.timelines import Base
from hostctl.postgres.server import cluster

EPOCHS = 10  # the newest ones in a list: each takes a few requests
SERVER = (
    "SELECT current_setting('server_version'), current_setting('max_connections'), "
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
    "(SELECT coalesce(pg_database_size(oid), 0) FROM pg_database WHERE datname = :'name')"
)
QUICK = 5.0  # seconds that the server may take for a status


# ---------------------------------------------------------------------------------------------- summary


def summary(app: App, host: Host) -> Json:
    """The database and its backup, without a request to S3: see engines.Backups."""
    config = cluster.require(app)
    document: Json = {"engine": "postgres", "path": str(app.cluster_data), "name": config.name, "unsafe": False}
    document |= {"server": host.systemd.show(app.cluster_unit)[0].state}
    document |= {**_server_facts(app, config), "pool": config.pool}
    document |= {"disk": disk.space(app.cluster) if app.cluster.is_dir() else None, "log_bytes": 0}
    return document | {"indexes": _invalid_indexes(app, config), "backup": _backup(app, host)}


def _server_facts(app: App, config: cluster.Cluster) -> dict[str, str | int | None]:
    """What only the server knows; all None while it does not answer."""
    names = ("version", "max_connections", "connections", "bytes")
    try:
        (row,) = cluster.query(cluster.live_server(app), SERVER, timeout=QUICK, bound={"name": config.name})
    except (HostError, ValueError):
        return dict.fromkeys(names)
    return dict(zip(names, [row[0].split()[0], *map(int, row[1:])], strict=True))


def _invalid_indexes(app: App, config: cluster.Cluster) -> list[InvalidIndex]:
    """The indexes that a failed concurrent build left invalid; none while the server does not answer."""
    try:
        query = partial(cluster.query, cluster.live_server(app), database=config.name, timeout=QUICK)
        return [cast(InvalidIndex, index._asdict()) for index in migrate.invalid_indexes(query)]
    except HostError:
        return []


def _backup(app: App, host: Host) -> BackupStatus | None:
    document = backup_summary.common_summary(app, host, app.tail_unit)
    if document is None:
        return None
    line, bases, lag = timelines.load(app), monitor.known_bases(app), wal_stream.lag(app)
    live = timelines.span_at(line.spans, None)
    document |= {"lag": lag if lag is not None else _lag_at_check(document["watch"]), "service": "the WAL stream"}
    document |= {"apart": "writes on this host are archived into an epoch that is not current"}
    document |= {"archiver": _archiver(app), "dropping": monitor.dropping_since(app)}
    document |= {"timeline": live and live.timeline}
    document |= {"gaps": [gap._asdict() for gap in line.gaps], "encrypted": settings.backup(app).encrypted}
    document |= {"full": _newest(bases, "full"), "newest": _newest(bases, None)}
    return cast(BackupStatus, document | {"run": read_json(app.backup / "run.json")})


def _lag_at_check(watch: MonitorResult | None) -> float | None:
    """The lag at the last check of the monitor, plus the time since."""
    if watch is None or (lag := watch.get("lag")) is None:
        return None
    return round(lag + time.time() - watch["at"], 3)


def _archiver(app: App) -> ArchiverStatus | None:
    try:
        archiver = monitor.read_archiver(app)
    except (HostError, ValueError):
        return None
    return {
        "archived": archiver.archived or None,
        "archived_at": archiver.archived_at or None,
        "fails": archiver.fails,
        "failures": archiver.failures,
        "waiting": len(replication.unarchived(app)),
    }


def _newest(bases: Sequence[Base], kind: str | None) -> BaseBackup | None:
    """The newest base backup of a kind, or of any."""
    candidates = [base for base in bases if kind is None or base.kind == kind]
    if not candidates:
        return None
    newest = max(candidates, key=lambda base: base.ended)
    return {"label": newest.label, "kind": newest.kind, "at": newest.ended, "bytes": newest.size}


# ---------------------------------------------------------------------------------------------- what can be restored


def listing(app: App) -> Json:
    """Restore points on this host, and for each epoch of the bucket the ranges that can be restored, and the gaps."""
    config, store, last = cluster.require(app), backup_epochs.bucket(app), drills.last_result(app)
    epochs = backup_epochs.chain(store)
    ends = [pgbackrest.newest_instant(app), *(epoch.opened for epoch in epochs)]
    document: Json = {"points": restore_points.all_points(app), "last_good": last["last_good"] if last else None}
    pairs = list(zip(epochs, ends, strict=False))[:EPOCHS]
    return document | {"epochs": [_list_epoch(app, store, epoch, end, config.name) for epoch, end in pairs]}


def _list_epoch(app: App, store: s3.Bucket, epoch: Epoch, end: float, name: str) -> Json:
    line = timelines.read_stored(store, epoch.epoch)
    bases = pgbackrest.bases(app, epoch.epoch)
    ranges = timelines.ranges(bases, line, end)
    document: Json = {"epoch": epoch.epoch, "host": epoch.host, "opened": epoch.opened, "parent": epoch.parent}
    document |= {"databases": {name: {"from": ranges[0].first, "to": ranges[-1].last} if ranges else None}}
    document |= {"ranges": [{"from": one.first, "to": one.last} for one in ranges]}
    document |= {"gaps": [gap._asdict() for gap in line.gaps], "timelines": [span._asdict() for span in line.spans]}
    return document | {"bases": [base._asdict() for base in bases]}


# ---------------------------------------------------------------------------------------------- actions


def run(app: App, host: Host) -> None:
    """Take a base backup: a full one when it is required or due, else an incremental one. Raises HostError."""
    backup, required = settings.backup(app), state.full_required(app)
    if not replication.ensure_repository(app):
        pgbackrest.create_repository(app)
    kind = monitor.due_backup(time.time(), monitor.refresh_bases(app), backup, required is not None) or "incr"
    pgbackrest.backup(app, kind)
    newest = max(monitor.refresh_bases(app), key=lambda base: base.ended)
    if kind == "full":
        state.full_taken(app)
        monitor.close_gaps(app, newest)


def drill(app: App, host: Host) -> DrillResult:
    """Restore the newest backup into a temporary cluster, and compare. Raises HostError."""
    return cluster_drill.run(app, host)


def takeover(app: App, host: Host) -> Epoch:
    """Archive this host's cluster into a new epoch, which is current from now on. Raises HostError."""
    with state.exclusive(app, patience=MOMENT):
        epoch = backup_epochs.takeover(app)
        if settings.has_data(app):
            replication.switch_epoch(app, host, epoch)
    if settings.has_data(app):
        replication.start_backup(app, host)
    else:
        replication.start(app, host)
    return epoch


def check(app: App) -> Json:
    """Check that pgBackRest reaches the bucket, and that an archived segment arrives. Raises HostError."""
    if not app.pgbackrest.exists():
        return {"pgbackrest": "not configured yet"}
    if backup_epochs.local(app) is not None and cluster.accepts_sessions(cluster.live_server(app)):
        pgbackrest.check(app)
    return {"pgbackrest": "archives"}
