"""The monitor of every minute: checks that writes arrive on S3 and that this host's epoch is current, and takes a
required full snapshot.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from hostctl.backup import epochs, s3, settings, state
from hostctl.backup.settings import Backup, Databases
from hostctl.common.documents import FullRequired
from hostctl.common.errors import HostError
from hostctl.common.files import Json, read_json, write_json
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal import journal
from hostctl.sqlite import files, lag, litestream, replication
from hostctl.sqlite.lag import Delay

PATIENCE = 10.0  # seconds that a row may take to S3 before the watch stops waiting for it
FORGOTTEN = 60.0  # seconds after which a pause that nobody is at work under was left by a crash


def check(app: App, host: Host) -> Json:
    """Check once, and write the result to watch.json: time, seconds of lag, the last canary row, and the error.

    Does nothing while another process works on the replication. Raises HostError.
    """
    dbs = settings.require(app)
    if dbs.backup is None:
        return {}
    if _left_to_others(app):
        return {"paused": True}
    try:
        with replication.exclusive(app, patience=0):
            told = _look(app, dbs, dbs.backup, host)
    except replication.BusyError as other:
        return {"left_to": other.what}  # a provisioning, for one: the next look is in a minute
    if told["error"] is None and (debt := state.full_required(app)) is not None:
        told["error"] = _pay(app, host, debt)
    write_json(app.backup / "watch.json", told)
    return told


def _left_to_others(app: App) -> bool:
    """Whether a transition works on the database now. A pause that a crash left expires."""
    found = state.paused(app)
    if found is None:
        return False
    return bool(lock.holder(app) or journal.unfinished(app) or time.time() - found["at"] < FORGOTTEN)


def _pay(app: App, host: Host, debt: FullRequired) -> str | None:
    """Take the required full snapshot; returns the error, if any."""
    try:
        replication.restart(app, host, debt["why"])
    except HostError as error:
        return error.what
    return None


def _look(app: App, dbs: Databases, backup: Backup, host: Host) -> Json:
    before = read_json(app.backup / "watch.json") or {}
    told: Json = {"at": time.time(), "lag": None, "canary": before.get("canary"), "error": None}
    told |= {"arrived": before.get("arrived")}
    wrong = _counts(app, host)
    if epochs.superseded(app) is not None:
        return {**told, "error": wrong}
    ran = _keep_running(app, host)
    number, written = _mark(app, dbs, told["canary"])
    late = ran or _arrived(app, dbs, min(PATIENCE, backup.max_lag), host)
    found = Delay(written, None) if late is None else _behind(app, dbs, before, written)
    lag = time.time() - (written if found.since is None else found.since)
    told |= {"lag": round(lag, 3), "canary": number, "since": found.since, "arrived": found.arrived}
    return {**told, "error": wrong or late}


# ---------------------------------------------------------------------------------------------- who counts


def _counts(app: App, host: Host) -> str | None:
    """Check that CURRENT names this host's epoch, and act when it does not; returns the error."""
    try:
        store = epochs.bucket(app)
        return _compare(app, host, store, epochs.current(app, store))
    except HostError as error:
        return error.what


def _compare(app: App, host: Host, store: s3.Bucket, now: epochs.Epoch | None) -> str | None:
    mine = epochs.local(app)
    if mine is None:
        return None
    if now is not None and now.epoch == mine.epoch:
        epochs.clear_superseded(app)
        epochs.publish(app, store)
        return None
    if not mine.published and (now is None or now.epoch == mine.replaces):
        epochs.publish(app, store)
        return None
    if now is None:
        # the next start opens another epoch
        host.systemd.stop(app.stream_unit)
        return "CURRENT is gone from the bucket: another epoch is opened"
    told = epochs.mark_superseded(app, now)
    host.systemd.stop(app.stream_unit)
    return str(told["why"])


# ---------------------------------------------------------------------------------------------- whether it runs


def _keep_running(app: App, host: Host) -> str | None:
    """Start Litestream when it does not run; returns why it did not."""
    if state.paused(app) is not None:
        replication.resume(app, host, snapshot=True)
        return "the stream was left paused"
    if host.systemd.show(app.stream_unit)[0].runs:
        found = state.refusal(app)
        return None if found is None else str(found["what"])
    found = state.refusal(app)
    state.clear_refusal(app)
    host.systemd.start(app.stream_unit)
    return str(found["what"]) if found else "Litestream did not run"


# ---------------------------------------------------------------------------------------------- whether it arrives


def _mark(app: App, dbs: Databases, last: int | None) -> tuple[int | None, float]:
    """Write a canary row into every open database; returns the main database's row number, and the time."""
    number, written = last, time.time()
    for one in dbs.databases:
        if one.path.exists() and litestream.has_open(app, one.path):
            with suppress(HostError):
                row = files.write_canary(one.path)
                number = row if one == dbs.main else number
    return number, written


def _arrived(app: App, dbs: Databases, patience: float, host: Host) -> str | None:
    """Wait until the writes are on S3; returns the error when they do not arrive."""
    try:
        for one in dbs.databases:
            if one.path.exists():
                litestream.wait_until_stored(app, one.name, patience, host)
    except HostError as error:
        return error.what + _refused(app)
    return None


def _refused(app: App) -> str:
    """What S3 says to a write, which it may refuse though it can be read: it is full, or the keys may not. "" if it
    takes one.
    """
    try:
        store = epochs.bucket(app, hurried=True)
        probe = f"{store.prefix}/.probe-{os.urandom(6).hex()}"
        store.put(probe, b"")
        store.delete(probe)
    except HostError as error:
        return f"; {error.what}"
    return ""


def _behind(app: App, dbs: Databases, before: Json, written: float) -> Delay:
    """How far behind S3 is, the row that was just written included. Without Litestream, as the last look saw it."""
    try:
        found = lag.measure(app, dbs, before)
    except HostError:
        found = Delay(before.get("arrived") or 0.0, before.get("since"))
    return found._replace(since=found.since or written)
