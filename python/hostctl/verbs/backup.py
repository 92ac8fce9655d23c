"""`hostctl APP backup ACTION`: what is so with the backup, and what a person or a timer asks of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from hostctl import engines
from hostctl.backup import drill, epochs, s3, settings, units
from hostctl.common.errors import FAILED, LOCKED, HostError
from hostctl.common.files import Json, make_directory, read_json, write_json
from hostctl.core import actor, audit
from hostctl.core.lock import Flock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.notify import alerts
from hostctl.verbs import kept

Action = Callable[[App, Host, actor.Actor], Json]


def verb(app: App, action: str, who: actor.Actor, host: Host) -> Json:
    """Do one of ACTIONS. Raises HostError."""
    return ACTIONS[action](app, host, who)


# ---------------------------------------------------------------------------------------------- what is so


def summary(app: App, host: Host) -> Json | None:
    """The database and its backup in short, from this host alone: no request leaves it. None without a database.

    Times in seconds since the epoch, `lag` and `max_lag` in seconds, sizes in bytes.
    """
    engine = engines.of(app)
    return engine.backups.summary(app, host) | {"aside": kept.space(app)} if engine else None


def _status(app: App, host: Host, _: actor.Actor) -> Json:
    engines.require(app)
    told, now = summary(app, host) or {}, time.time()
    if told["backup"]:
        told["backup"]["next_drill"] = host.systemd.next_elapse(f"homeport-{app.name}-drill.timer")
    return {"app": app.name, "time": now, "database": told, "trouble": alerts.of_database(told, now)}


def _list(app: App, _: Host, __: actor.Actor) -> Json:
    settings.backup(app)
    return engines.require(app).backups.listing(app) | {"aside": kept.every(app)}


# ---------------------------------------------------------------------------------------------- long work, in units


def _drill(app: App, host: Host, who: actor.Actor) -> Json:
    """Inside the timer's unit the drill itself; from anywhere else that unit is started, which needs no connection."""
    settings.backup(app)
    if host.systemd.running_inside(units.drill_unit(app)):
        return engines.require(app).backups.drill(app, host)
    units.refuse_second_run(host, units.drill_unit(app), "a drill")
    begun = time.time()
    host.systemd.start(units.drill_unit(app))
    audit.note(app, who.name, who.origin, "backup drill", "")
    return {"started": begun}


def _run(app: App, host: Host, who: actor.Actor) -> Json:
    """As `_drill`: everything written until now goes to S3, and a whole snapshot after it."""
    settings.backup(app)
    if host.systemd.running_inside(units.run_unit(app)):
        return _now(app, host)
    units.refuse_second_run(host, units.run_unit(app), "a backup")
    begun = time.time()
    units.start_run(app, host)
    audit.note(app, who.name, who.origin, "backup run", "")
    return {"started": begun}


def _now(app: App, host: Host) -> Json:
    make_directory(app.backup, 0o700)
    try:
        with Flock(app.backup / "run.lock"):
            told = _ran(app, host)
    except BlockingIOError:
        raise HostError("a backup runs already", str(app.backup), "deploy backup status", LOCKED) from None
    if not told["ok"]:
        raise HostError(f"the backup failed: {told['found'][0]}", app.stream_unit, "deploy backup status", FAILED)
    return told


def _ran(app: App, host: Host) -> Json:
    """Run it, and write down what came of it."""
    begun, clock, found = time.time(), host.clock(), []
    try:
        engines.require(app).backups.run(app, host)
    except HostError as error:
        found = [error.what]
    told: Json = {"at": begun, "ok": not found, "seconds": round(host.clock() - clock, 3), "found": found}
    write_json(app.backup / "run.json", told)
    return told


def _progress(app: App, host: Host, _: actor.Actor) -> Json:
    """What the laptop asks while one of the two runs, and when it has ended."""
    drilling, running = host.systemd.show(units.drill_unit(app), units.run_unit(app))
    told: Json = {"drill": {"running": drilling.runs, "step": drill.progress(app), "result": drill.last_result(app)}}
    result = read_json(app.backup / "run.json")
    return told | {"run": {"running": running.runs, "step": "", "result": result}, "time": time.time()}


# ---------------------------------------------------------------------------------------------- acts


def _takeover(app: App, host: Host, who: actor.Actor) -> Json:
    """This host's database becomes the one that counts, in an epoch of its own."""
    settings.backup(app)
    mine, now = epochs.local(app), epochs.current(app, epochs.bucket(app))
    if mine is not None and now is not None and mine.epoch == now.epoch and epochs.superseded(app) is None:
        return {"changed": False, "epoch": mine.epoch, "parent": mine.parent}
    told = engines.require(app).backups.takeover(app, host)
    audit.note(app, who.name, who.origin, "backup takeover", told.epoch)
    return {"changed": True, "epoch": told.epoch, "parent": told.parent}


def _check(app: App, _: Host, __: actor.Actor) -> Json:
    """Ask the bucket from here: there, writable, as strict as required, and of the same time."""
    backup, bucket = settings.backup(app), epochs.bucket(app)
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
        wrong = f"this host's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the store's"
        raise HostError(wrong, bucket.where, "mend the host's clock: timedatectl", FAILED)
    told: Json = {"bucket": backup.bucket, "where": bucket.where, "skew": round(skew, 1)}
    return told | {"require": list(backup.require)} | engines.require(app).backups.check(app)


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
