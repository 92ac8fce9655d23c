"""PostgreSQL's side of `hostctl APP backup`: what is so, what can be restored, base backups, a takeover."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from hostctl.backup import drill as drills
from hostctl.backup import epochs as backup_epochs
from hostctl.backup import restore_points, settings, state
from hostctl.backup import summary as backup_summary
from hostctl.backup.epochs import Epoch
from hostctl.common.documents import DrillResult
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

EPOCHS = 10  # of the newest that a list looks into: each takes a few requests
ASKED = (
    "SELECT current_setting('server_version'), current_setting('max_connections'), "
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
    "(SELECT coalesce(pg_database_size(oid), 0) FROM pg_database WHERE datname = :'name')"
)
QUICK = 5.0  # seconds that the server may take for a status


# ---------------------------------------------------------------------------------------------- what is so


def summary(app: App, host: Host) -> Json:
    """The database and its backup, from this host alone. As Backups has it."""
    wanted = cluster.require(app)
    told: Json = {"engine": "postgres", "path": str(app.cluster_data), "name": wanted.name, "unsafe": False}
    told |= {"server": host.systemd.show(app.cluster_unit)[0].state, **_asked(app, wanted), "pool": wanted.pool}
    told |= {"disk": disk.space(app.cluster) if app.cluster.is_dir() else None, "log_bytes": 0}
    return told | {"indexes": _indexes(app, wanted), "backup": _backup(app, host)}


def _asked(app: App, wanted: cluster.Cluster) -> Json:
    """What only the server knows; nothing of it while it does not answer."""
    names = ("version", "max_connections", "connections", "bytes")
    try:
        (row,) = cluster.query(cluster.live_server(app), ASKED, timeout=QUICK, bound={"name": wanted.name})
    except (HostError, ValueError):
        return dict.fromkeys(names)
    return dict(zip(names, [row[0].split()[0], *(int(one) for one in row[1:])], strict=True))


def _indexes(app: App, wanted: cluster.Cluster) -> list[Json]:
    """Those that a failed concurrent build left invalid."""
    try:
        asked = partial(cluster.query, cluster.live_server(app), database=wanted.name, timeout=QUICK)
        return [one._asdict() for one in migrate.invalid_indexes(asked)]
    except HostError:
        return []


def _backup(app: App, host: Host) -> Json | None:
    told = backup_summary.common_summary(app, host, app.tail_unit)
    if told is None:
        return None
    line, bases, lag = timelines.load(app), monitor.known_bases(app), wal_stream.lag(app)
    now_on = timelines.span_at(line.spans, None)
    told |= {"lag": lag if lag is not None else _watched(told["watch"]), "service": "the tail of the log"}
    told |= {"apart": "what is written here is archived apart, and does not count"}
    told |= {
        "archiver": _archiver(app),
        "dropping": monitor.dropping_since(app),
        "timeline": now_on and now_on.timeline,
    }
    told |= {"gaps": [gap._asdict() for gap in line.gaps], "encrypted": settings.backup(app).encrypted}
    told |= {"full": _last(bases, "full"), "newest": _last(bases, None), "run": read_json(app.backup / "run.json")}
    return told


def _watched(watch: Json | None) -> float | None:
    """The lag as the last watch saw it, and the time since."""
    if watch is None or watch.get("lag") is None:
        return None
    return round(float(watch["lag"]) + time.time() - float(watch["at"]), 3)


def _archiver(app: App) -> Json | None:
    try:
        found = monitor.read_archiver(app)
    except (HostError, ValueError):
        return None
    told: Json = {"archived": found.archived or None, "archived_at": found.archived_at or None, "fails": found.fails}
    return told | {"failures": found.failures, "waiting": len(replication.unarchived(app))}


def _last(bases: Sequence[Base], kind: str | None) -> Json | None:
    found = [one for one in bases if kind is None or one.kind == kind]
    if not found:
        return None
    newest = max(found, key=lambda one: one.ended)
    return {"label": newest.label, "kind": newest.kind, "at": newest.ended, "bytes": newest.size}


# ---------------------------------------------------------------------------------------------- what can be restored


def listing(app: App) -> Json:
    """Restore points on this host, and per epoch of the bucket what can be restored, and what cannot: the gaps."""
    wanted, store, last = cluster.require(app), backup_epochs.bucket(app), drills.last_result(app)
    epochs = backup_epochs.chain(store)
    ends = [pgbackrest.newest_instant(app), *(epoch.opened for epoch in epochs)]
    told: Json = {"points": restore_points.all_points(app), "last_good": last["last_good"] if last else None}
    pairs = list(zip(epochs, ends, strict=False))[:EPOCHS]
    return told | {"epochs": [_of_epoch(app, store, epoch, end, wanted.name) for epoch, end in pairs]}


def _of_epoch(app: App, store: object, epoch: Epoch, end: float, name: str) -> Json:
    line = timelines.read_stored(backup_epochs.bucket(app), epoch.epoch)
    bases = pgbackrest.bases(app, epoch.epoch)
    found = timelines.ranges(bases, line, end)
    told: Json = {"epoch": epoch.epoch, "host": epoch.host, "opened": epoch.opened, "parent": epoch.parent}
    told |= {"databases": {name: {"from": found[0].first, "to": found[-1].last} if found else None}}
    told |= {"ranges": [{"from": one.first, "to": one.last} for one in found]}
    told |= {"gaps": [gap._asdict() for gap in line.gaps], "timelines": [span._asdict() for span in line.spans]}
    return told | {"bases": [one._asdict() for one in bases]}


# ---------------------------------------------------------------------------------------------- acts


def run(app: App, host: Host) -> None:
    """A base backup of now: whole when one is owed or due, else what has changed since the last. Raises HostError."""
    backup, debt = settings.backup(app), state.full_required(app)
    if not replication.ensure_repository(app):
        pgbackrest.create_repository(app)
    kind = monitor.due_backup(time.time(), monitor.refresh_bases(app), backup, debt is not None) or "incr"
    pgbackrest.backup(app, kind)
    newest = max(monitor.refresh_bases(app), key=lambda one: one.ended)
    if kind == "full":
        state.full_taken(app)
        monitor.close_gaps(app, newest)


def drill(app: App, host: Host) -> DrillResult:
    """Restore the newest into a scratch cluster, and compare. Raises HostError."""
    return cluster_drill.run(app, host)


def takeover(app: App, host: Host) -> Epoch:
    """This host's cluster is archived into an epoch of its own, which counts from now on. Raises HostError."""
    with replication.exclusive(app, patience=MOMENT):
        told = backup_epochs.takeover(app)
        if settings.has_data(app):
            replication.switch_epoch(app, host, told)
    if settings.has_data(app):
        replication.start_backup(app, host)
    else:
        replication.start(app, host)
    return told


def check(app: App) -> Json:
    """pgBackRest reaches the bucket from here, and what the server archives arrives. Raises HostError."""
    if not app.pgbackrest.exists():
        return {"pgbackrest": "not configured yet"}
    if backup_epochs.local(app) is not None and cluster.accepts_sessions(cluster.live_server(app)):
        pgbackrest.check(app)
    return {"pgbackrest": "archives"}
