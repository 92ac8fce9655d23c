"""The monitor of every minute: checks that writes arrive on S3 and that this host's epoch is current, and takes a
required full snapshot.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import cast

from hostctl.backup import epochs, s3, settings, state
from hostctl.backup.settings import Backup, Database, Databases
from hostctl.common.documents import FullRequired, MonitorResult
from hostctl.common.errors import HostError
from hostctl.common.files import Json, read_json, write_json
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal import journal
from hostctl.sqlite.database import owner
from hostctl.sqlite.stream import lag, litestream, replication
from hostctl.sqlite.stream.lag import Delay

PATIENCE = 10.0  # seconds for which the monitor waits until a row is on S3
FORGOTTEN = 60.0  # seconds after which a pause without a running transition was left by a crash


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
        with state.exclusive(app, patience=0):
            result = _check(app, dbs, dbs.backup, host)
    except state.BusyError as busy:
        return {"left_to": busy.what}  # such as provisioning; the next check is in a minute
    if result["error"] is None and (required := state.full_required(app)) is not None:
        result["error"] = _take_full(app, host, required)
    write_json(app.backup / "watch.json", result)
    return {**result}


def _left_to_others(app: App) -> bool:
    """Whether a transition works on the database now. A pause that a crash left expires."""
    pause = state.paused(app)
    if pause is None:
        return False
    return bool(lock.holder(app) or journal.unfinished(app) or time.time() - pause["at"] < FORGOTTEN)


def _take_full(app: App, host: Host, required: FullRequired) -> str | None:
    """Take the required full snapshot; returns the error, if any."""
    try:
        replication.restart(app, host, required["why"])
    except HostError as error:
        return error.what
    return None


def _check(app: App, dbs: Databases, backup: Backup, host: Host) -> MonitorResult:
    begun, before = time.time(), cast("MonitorResult | None", read_json(app.backup / "watch.json"))
    arrived, canary = (before.get("arrived"), before.get("canary")) if before else (None, None)
    not_current = _check_epoch(app, host)
    if epochs.superseded(app) is not None:
        return {"at": begun, "lag": None, "canary": canary, "error": not_current, "arrived": arrived}
    not_running = _keep_running(app, host)
    number, written = _write_canaries(app, dbs, canary)
    late = not_running or _wait_until_stored(app, dbs, min(PATIENCE, backup.max_lag), host)
    delay = Delay(written, None) if late is None else _measure_delay(app, dbs, before, written)
    seconds = time.time() - (written if delay.since is None else delay.since)
    return {
        "at": begun,
        "lag": round(seconds, 3),
        "canary": number,
        "error": not_current or late,
        "arrived": delay.arrived,
        "since": delay.since,
    }


# ---------------------------------------------------------------------------------------------- the current epoch


def _check_epoch(app: App, host: Host) -> str | None:
    """Check that CURRENT names this host's epoch, and act when it does not; returns the error."""
    try:
        store = epochs.bucket(app)
        return _compare(app, host, store, epochs.current(app, store))
    except HostError as error:
        return error.what


def _compare(app: App, host: Host, store: s3.Bucket, now: epochs.Epoch | None) -> str | None:
    """Compare this host's epoch with `now`, the one that CURRENT names, and act on a difference; returns the error."""
    local = epochs.local(app)
    if local is None:
        return None
    if now is not None and now.epoch == local.epoch:
        epochs.clear_superseded(app)
        epochs.publish(app, store)
        return None
    if not local.published and (now is None or now.epoch == local.replaces):
        epochs.publish(app, store)
        return None
    if now is None:
        # the next start opens another epoch
        host.systemd.stop(app.stream_unit)
        return "CURRENT is gone from the bucket: another epoch is opened"
    superseded = epochs.mark_superseded(app, now)
    host.systemd.stop(app.stream_unit)
    return superseded["why"]


# ---------------------------------------------------------------------------------------------- Litestream


def _keep_running(app: App, host: Host) -> str | None:
    """Start Litestream when it does not run; returns why it did not run, or the error of its last start."""
    if state.paused(app) is not None:
        replication.resume(app, host, snapshot=True)
        return "the stream was left paused"
    refusal = state.refusal(app)
    if host.systemd.show(app.stream_unit)[0].runs:
        return refusal["what"] if refusal else None
    state.clear_refusal(app)
    host.systemd.start(app.stream_unit)
    return refusal["what"] if refusal else "Litestream did not run"


# ---------------------------------------------------------------------------------------------- writes on S3


def _write_canaries(app: App, dbs: Databases, last: int | None) -> tuple[int | None, float]:
    """Write a canary row into every open database; returns the main database's row number, and the time."""
    number, written = last, time.time()
    for database in _open_databases(app, dbs):
        with suppress(HostError):
            row = owner.write_canary(dbs.user, database.path)
            number = row if database == dbs.main else number
    return number, written


def _open_databases(app: App, dbs: Databases) -> list[Database]:
    """The databases that Litestream has open. A path that cannot be followed is the error of `_wait_until_stored`."""
    with suppress(HostError):
        return [database for database in dbs.existing() if litestream.has_open(app, database.path)]
    return []


def _wait_until_stored(app: App, dbs: Databases, patience: float, host: Host) -> str | None:
    """Wait until the writes are on S3; returns the error when they do not arrive."""
    try:
        for database in dbs.existing():
            litestream.wait_until_stored(app, database.name, patience, host)
    except HostError as error:
        return error.what + _write_error(app)
    return None


def _write_error(app: App) -> str:
    """The error of a write to S3, as an addition to a message; "" without one. A full bucket, or keys without the right
    to write, refuse writes but not reads.
    """
    try:
        store = epochs.bucket(app, hurried=True)
        probe = f"{store.prefix}/.probe-{os.urandom(6).hex()}"
        store.put(probe, b"")
        store.delete(probe)
    except HostError as error:
        return f"; {error.what}"
    return ""


def _measure_delay(app: App, dbs: Databases, before: MonitorResult | None, written: float) -> Delay:
    """The delay of S3, including the canary just written. Without Litestream it is that of the last result."""
    try:
        delay = lag.measure(app, dbs, before)
    except HostError:
        delay = Delay((before and before.get("arrived")) or 0.0, before.get("since") if before else None)
    return delay._replace(since=delay.since or written)
