"""`hostctl APP backup ACTION`: status, run, list, drill, progress, takeover, check."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from hostctl import engines
from hostctl.backup import drill, epochs, s3, settings, units
from hostctl.common.documents import BackupRun, DatabaseStatus
from hostctl.common.errors import FAILED, LOCKED, HostError
from hostctl.common.files import Json, make_directory, read_json, write_json
from hostctl.core import actor, audit, lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.notify import alerts
from hostctl.verbs import kept

Action = Callable[[App, Host, actor.Actor], Mapping[str, Any]]


def perform(app: App, action: str, who: actor.Actor, host: Host) -> Mapping[str, Any]:
    """Perform one of ACTIONS. Returns its document. Raises HostError."""
    return ACTIONS[action](app, host, who)


# ---------------------------------------------------------------------------------------------- status


def summary(app: App, host: Host) -> DatabaseStatus | None:
    """A summary of the database and its backup, without a request to another host. None without a database.

    Times in seconds since the epoch, `lag` and `max_lag` in seconds, sizes in bytes.
    """
    engine = engines.of(app)
    if engine is None:
        return None
    return cast("DatabaseStatus", engine.backups.summary(app, host) | {"aside": kept.space(app)})


def _status(app: App, host: Host, _: actor.Actor) -> Json:
    engines.require(app)
    document, current = summary(app, host), time.time()
    if document and document["backup"]:
        document["backup"]["next_drill"] = host.systemd.next_elapse(f"homeport-{app.name}-drill.timer")
    return {"app": app.name, "time": current, "database": document, "trouble": alerts.of_database(document, current)}


def _list(app: App, _: Host, __: actor.Actor) -> Json:
    settings.backup(app)
    return engines.require(app).backups.listing(app) | {"aside": kept.every(app)}


# ---------------------------------------------------------------------------------------------- run and drill


def _drill(app: App, host: Host, who: actor.Actor) -> Mapping[str, Any]:
    """Run the drill when called in its unit, else start that unit and return `started`."""
    settings.backup(app)
    if host.systemd.running_inside(units.drill_unit(app)):
        return engines.require(app).backups.drill(app, host)
    units.refuse_second_run(host, units.drill_unit(app), "a drill")
    begun = time.time()
    host.systemd.start(units.drill_unit(app))
    audit.note(app, who.name, who.origin, "backup drill", "")
    return {"started": begun}


def _run(app: App, host: Host, who: actor.Actor) -> Mapping[str, Any]:
    """As `_drill`: back up everything written until now, and a full snapshot."""
    settings.backup(app)
    if host.systemd.running_inside(units.run_unit(app)):
        return _run_now(app, host)
    units.refuse_second_run(host, units.run_unit(app), "a backup")
    begun = time.time()
    units.start_run(app, host)
    audit.note(app, who.name, who.origin, "backup run", "")
    return {"started": begun}


def _run_now(app: App, host: Host) -> BackupRun:
    make_directory(app.backup, 0o700)
    busy = HostError("a backup runs already", str(app.backup), "deploy backup status", LOCKED)
    with lock.hold(app.backup / "run.lock", busy):
        result = _record_run(app, host)
    if not result["ok"]:
        raise HostError(f"the backup failed: {result['found'][0]}", app.stream_unit, "deploy backup status", FAILED)
    return result


def _record_run(app: App, host: Host) -> BackupRun:
    """Run a backup and record its result in run.json."""
    begun, clock, found = time.time(), host.clock(), []
    try:
        engines.require(app).backups.run(app, host)
    except HostError as error:
        found = [error.what]
    result: BackupRun = {"at": begun, "ok": not found, "seconds": round(host.clock() - clock, 3), "found": found}
    write_json(app.backup / "run.json", result)
    return result


def _progress(app: App, host: Host, _: actor.Actor) -> Json:
    """Whether a drill and a backup run, their steps, and their last results."""
    drilling, running = host.systemd.show(units.drill_unit(app), units.run_unit(app))
    document: Json = {
        "drill": {"running": drilling.runs, "step": drill.progress(app), "result": drill.last_result(app)}
    }
    result = read_json(app.backup / "run.json")
    return document | {"run": {"running": running.runs, "step": "", "result": result}, "time": time.time()}


# ---------------------------------------------------------------------------------------------- takeover and check


def _takeover(app: App, host: Host, who: actor.Actor) -> Json:
    """Make this host's database the one that is backed up, in a new epoch."""
    settings.backup(app)
    local, current = epochs.local(app), epochs.current(app, epochs.bucket(app))
    if local is not None and current is not None and local.epoch == current.epoch and epochs.superseded(app) is None:
        return {"changed": False, "epoch": local.epoch, "parent": local.parent}
    epoch = engines.require(app).backups.takeover(app, host)
    audit.note(app, who.name, who.origin, "backup takeover", epoch.epoch)
    return {"changed": True, "epoch": epoch.epoch, "parent": epoch.parent}


def _check(app: App, _: Host, __: actor.Actor) -> Json:
    """Check from this host that the bucket exists, is writable, has the required features, and has the same clock."""
    backup, bucket = settings.backup(app), epochs.bucket(app)
    bucket.check()
    probe = f"{backup.prefix}/.probe-{os.urandom(6).hex()}"
    bucket.put(probe, b"homeport")
    read = bucket.get(probe)
    bucket.delete(probe)
    if read is None or read[0] != b"homeport":
        raise HostError(
            "the bucket does not return what was written to it", bucket.where, "use another S3 store", FAILED
        )
    _refuse_missing_features(bucket, backup.require)
    skew = bucket.skew or 0.0
    if abs(skew) > s3.SKEW:
        problem = f"this host's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the store's"
        raise HostError(problem, bucket.where, "set the host's clock: timedatectl", FAILED)
    document: Json = {"bucket": backup.bucket, "where": bucket.where, "skew": round(skew, 1)}
    return document | {"require": list(backup.require)} | engines.require(app).backups.check(app)


def _refuse_missing_features(bucket: s3.Bucket, require: tuple[str, ...]) -> None:
    features = {
        "versioning": (bucket.versioned, "versioning is not enabled"),
        "object_lock": (bucket.locked, "it has no object lock"),
    }
    for name in require:
        holds, problem = features[name]
        if not holds():
            raise HostError(
                f"backup.require asks for {name} of {bucket.name}: {problem}",
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
