"""`hostctl APP backup ACTION`: what is so with the backup, and what a person or a timer asks of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from hostctl import audit, databases, drill, lineage, litestream, marks, s3, status, trouble
from hostctl.databases import DAILY, Databases
from hostctl.edges import Edges
from hostctl.errors import FAILED, LOCKED, HostError
from hostctl.files import Json, make_directory, read_json, write_json
from hostctl.layout import PROGRAM, App
from hostctl.lock import MOMENT, Flock

OPEN = (
    "the app may checkpoint by itself (database.unsafe_checkpoints: allow): a crash of Litestream under writes can "
    "leave a hole in the backup until a snapshot is forced after it, which only a drill finds; wal_autocheckpoint = 0 "
    "in the app ends that"
)
EPOCHS = 10  # of the newest that a list looks into: each takes a few requests


class Who(NamedTuple):
    """Who asks, and from where, for the audit."""

    name: str
    origin: str


Action = Callable[[App, Edges, Who], Json]


def verb(app: App, action: str, who: Who, edges: Edges) -> Json:
    """Do one of ACTIONS. Raises HostError."""
    return ACTIONS[action](app, edges, who)


# ---------------------------------------------------------------------------------------------- what is so


def summary(app: App, edges: Edges) -> Json | None:
    """The database and its backup in short, from this host alone: no request leaves it. None without a database.

    Times in seconds since the epoch, `lag` and `max_lag` in seconds, sizes in bytes.
    """
    dbs = databases.load(app)
    if dbs is None:
        return None
    main = dbs.main.path
    told: Json = {"engine": "sqlite", "path": str(main), "bytes": drill.size(main), "unsafe": dbs.unsafe}
    told |= {"disk": status.space(main.parent) if main.parent.is_dir() else None, "log_bytes": drill.log_size(main)}
    return told | {"backup": _backup(app, dbs, edges)}


def _backup(app: App, dbs: Databases, edges: Edges) -> Json | None:
    backup = dbs.backup
    if backup is None:
        return None
    mine, last, watch = lineage.local(app), drill.last(app), read_json(app.backup / "watch.json")
    told: Json = {
        "bucket": backup.bucket,
        "prefix": backup.prefix,
        "stream": edges.systemd.show(app.stream_unit)[0].state,
    }
    told |= {"epoch": mine.epoch if mine else None, "opened": mine.opened if mine else None}
    told |= {"lag": _lag(app, dbs, watch), "max_lag": backup.max_lag, "watch": watch}
    told |= {"superseded": lineage.superseded(app), "owed": marks.owed(app)}
    told |= {"drill": last, "last_good": last["last_good"] if last else None}
    return told | {"schedule": DAILY if dbs.unsafe else backup.drill, "left_open": OPEN if dbs.unsafe else None}


def _lag(app: App, dbs: Databases, watch: Json | None) -> float | None:
    """How old the oldest write is that is not on S3 yet: as Litestream says, else as the last watch saw and since."""
    now = time.time()
    try:
        behind = [litestream.position(app, database.name).behind_since for database in dbs.databases]
    except HostError:
        return watch["lag"] + now - watch["at"] if watch and watch.get("lag") is not None else None
    return round(max((now - since for since in behind if since is not None), default=0.0), 3)


def _status(app: App, edges: Edges, _: Who) -> Json:
    databases.require(app)
    told, now = summary(app, edges) or {}, time.time()
    if told["backup"]:
        told["backup"]["next_drill"] = edges.systemd.next_elapse(f"homeport-{app.name}-drill.timer")
    return {"app": app.name, "time": now, "database": told, "trouble": trouble.of_database(told, now)}


# ---------------------------------------------------------------------------------------------- what can be restored


def _list(app: App, _: Edges, __: Who) -> Json:
    """Restore points on this host, and per epoch of the bucket what can be restored."""
    from hostctl import points

    dbs, bucket = databases.require_backup(app)[0], lineage.bucket(app)
    last = drill.last(app)
    epochs = lineage.chain(bucket)[:EPOCHS]
    told: Json = {"points": points.every(app), "last_good": last["last_good"] if last else None}
    return told | {"epochs": [_of_epoch(app, dbs, epoch) for epoch in epochs]}


def _of_epoch(app: App, dbs: Databases, epoch: lineage.Epoch) -> Json:
    ranges = {database.name: litestream.ranges(app, dbs, epoch.epoch, database.name) for database in dbs.databases}
    told: Json = {"epoch": epoch.epoch, "host": epoch.host, "opened": epoch.opened, "parent": epoch.parent}
    return told | {"databases": ranges}


# ---------------------------------------------------------------------------------------------- long work, in units


def drill_unit(app: App) -> str:
    """The unit of the timer."""
    return app.helper_unit("drill")


def run_unit(app: App) -> str:
    return app.helper_unit("backup")


def _drill(app: App, edges: Edges, who: Who) -> Json:
    """Inside the timer's unit the drill itself; from anywhere else that unit is started, which needs no connection."""
    databases.require_backup(app)
    if edges.systemd.running_inside(drill_unit(app)):
        return drill.run(app, edges)
    _alone(edges, drill_unit(app), "a drill")
    begun = time.time()
    edges.systemd.start(drill_unit(app))
    audit.note(app, who.name, who.origin, "backup drill", "")
    return {"started": begun}


def _run(app: App, edges: Edges, who: Who) -> Json:
    """As `_drill`: everything written until now goes to S3, and a whole snapshot after it."""
    databases.require_backup(app)
    if edges.systemd.running_inside(run_unit(app)):
        return _now(app, edges)
    _alone(edges, run_unit(app), "a backup")
    begun = time.time()
    edges.systemd.background(run_unit(app), [PROGRAM, app.name, "backup", "run"], ())
    audit.note(app, who.name, who.origin, "backup run", "")
    return {"started": begun}


def _alone(edges: Edges, unit: str, what: str) -> None:
    if edges.systemd.show(unit)[0].runs:
        raise HostError(f"{what} runs already", unit, "deploy backup status tells when it is done", LOCKED)


def _now(app: App, edges: Edges) -> Json:
    make_directory(app.backup, 0o700)
    try:
        with Flock(app.backup / "run.lock"):
            told = _ran(app, edges)
    except BlockingIOError:
        raise HostError("a backup runs already", str(app.backup), "deploy backup status", LOCKED) from None
    if not told["ok"]:
        raise HostError(f"the backup failed: {told['found'][0]}", app.stream_unit, "deploy backup status", FAILED)
    return told


def _ran(app: App, edges: Edges) -> Json:
    """Restart the stream with a snapshot in between, and write down what came of it."""
    from hostctl import stream

    begun, clock, found = time.time(), edges.clock(), []
    try:
        stream.restart(app, edges, "deploy backup run")
    except HostError as error:
        found = [error.what]
    told: Json = {"at": begun, "ok": not found, "seconds": round(edges.clock() - clock, 3), "found": found}
    write_json(app.backup / "run.json", told)
    return told


def _progress(app: App, edges: Edges, _: Who) -> Json:
    """What the laptop asks while one of the two runs, and when it has ended."""
    drilling, running = edges.systemd.show(drill_unit(app), run_unit(app))
    told: Json = {"drill": {"running": drilling.runs, "step": drill.progress(app), "result": drill.last(app)}}
    result = read_json(app.backup / "run.json")
    return told | {"run": {"running": running.runs, "step": "", "result": result}, "time": time.time()}


# ---------------------------------------------------------------------------------------------- acts


def _takeover(app: App, edges: Edges, who: Who) -> Json:
    """This host's database becomes the one that counts, in an epoch of its own."""
    from hostctl import stream

    databases.require_backup(app)
    mine, now = lineage.local(app), lineage.current(app, lineage.bucket(app))
    if mine is not None and now is not None and mine.epoch == now.epoch and lineage.superseded(app) is None:
        return {"changed": False, "epoch": mine.epoch, "parent": mine.parent}
    with stream.working(app, patience=MOMENT):
        # what runs, if anything does, streams into the epoch of before
        edges.systemd.stop(app.stream_unit)
        try:
            told = lineage.takeover(app)
        finally:
            marks.admit(app)
            edges.systemd.start(app.stream_unit)
    audit.note(app, who.name, who.origin, "backup takeover", told.epoch)
    return {"changed": True, "epoch": told.epoch, "parent": told.parent}


def _check(app: App, _: Edges, __: Who) -> Json:
    """Ask the bucket from here: there, writable, as strict as required, and of the same time."""
    backup = databases.require_backup(app)[1]
    bucket = s3.Bucket(backup, databases.credentials(app))
    bucket.check()
    probe = f"{backup.prefix}/.probe-{os.urandom(6).hex()}"
    bucket.put(probe, b"homeport")
    read = bucket.get(probe)
    bucket.delete(probe)
    if read is None or read[0] != b"homeport":
        raise HostError("the bucket does not give back what was written", bucket.where, "use a store that does", FAILED)
    _required(bucket, backup.require)
    skew = bucket.skew or 0.0
    if abs(skew) > s3.SKEW:
        told = f"this host's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the store's"
        raise HostError(told, bucket.where, "mend the host's clock: timedatectl", FAILED)
    return {"bucket": backup.bucket, "where": bucket.where, "skew": round(skew, 1), "require": list(backup.require)}


def _required(bucket: s3.Bucket, require: tuple[str, ...]) -> None:
    asked = {
        "versioning": (bucket.versioned, "versioning is not enabled"),
        "object_lock": (bucket.locked, "it has no object lock"),
    }
    for name in require:
        holds, wrong = asked[name]
        if not holds():
            raise HostError(
                f"backup.require asks for {name} of {bucket.name}: {wrong}",
                bucket.where,
                "deploy backup create-bucket",
                FAILED,
            )


ACTIONS: dict[str, Action] = {
    "status": _status,
    "run": _run,
    "list": _list,
    "drill": _drill,
    "progress": _progress,
    "takeover": _takeover,
    "check": _check,
}
