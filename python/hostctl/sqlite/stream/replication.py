"""Replication of an app's SQLite files by Litestream: its actions, and every way to stop or restart it.

Litestream misses what is checkpointed while it is stopped. So a planned restart holds a read transaction on every
database, and after any other end a full snapshot is required, which the monitor takes.
"""

from __future__ import annotations

import contextlib
import os
import time

from hostctl.backup import epochs, s3, settings, state
from hostctl.backup.settings import Database, Databases
from hostctl.common.documents import FullRequired
from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import Json, make_directory
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite.database import owner
from hostctl.sqlite.stream import bootstrap as preparing
from hostctl.sqlite.stream import litestream

BACK = 60.0  # seconds for which a start waits until Litestream has every database open, and more for large ones
SLOWEST = 10 << 20  # bytes a second that Litestream reads of them, at least
AWAY = 3.0  # seconds of waiting after which the start checks whether S3 answers
POLL = 0.1


# ---------------------------------------------------------------------------------------------- what the unit calls


def condition(app: App) -> Json:
    """Whether the unit may start. Raises HostError when it may not, so that systemd skips it."""
    reason = _stop_reason(app)
    if reason is not None:
        raise HostError(f"nothing is streamed: {reason}", str(app.backup), "deploy backup status", FAILED)
    return {}


def _stop_reason(app: App) -> str | None:
    """Why the unit may not start; None when it may."""
    dbs = settings.load(app)
    if dbs is None or dbs.backup is None:
        return "no backup is configured"
    if (superseded := epochs.superseded(app)) is not None:
        return superseded["why"]
    if (paused := state.paused(app)) is not None:
        return paused["why"]
    refusal = state.refusal(app)
    return None if refusal is None or refusal["again"] else refusal["what"]


def stopped(app: App) -> Json:
    """Note how Litestream ended: after an unclean end a full snapshot is required."""
    running = state.running(app)
    result = os.environ.get("SERVICE_RESULT", "")
    if running is not None and result != "success":
        state.require_full(app, f"Litestream ended without being stopped ({result or 'unknown'})")
    state.ended(app)
    return {"clean": running is None or result == "success"}


# ---------------------------------------------------------------------------------------------- start


def start(app: App, host: Host, allow_empty: bool = False) -> Json:
    """Start Litestream with the current configuration; returns whether anything was changed.

    Restores or creates missing databases. Raises HostError when Litestream does not start.
    """
    dbs = settings.require(app)
    make_directory(app.backup, 0o700)
    if dbs.backup is None:
        return {"changed": preparing.create_main(dbs)}
    if (superseded := epochs.superseded(app)) is not None:
        return {"changed": False, "superseded": superseded}
    if (paused := state.paused(app)) is not None:
        return {"changed": False, "paused": paused}
    if allow_empty:
        state.allow_empty(app)
    if not host.systemd.show(app.stream_unit)[0].runs:
        return _start(app, dbs, host)
    running = state.running(app)
    if running is None or running["fingerprint"] == preparing.fingerprint(app, host):
        wait_until_synced(app, dbs, host, time.time())
        return {"changed": False}
    restart(app, host, "its configuration changed")
    return {"changed": True}


def _start(app: App, dbs: Databases, host: Host) -> Json:
    begun = time.time()
    state.clear_refusal(app)
    host.systemd.start(app.stream_unit)
    wait_until_synced(app, dbs, host, begun)
    return {"changed": True}


def wait_until_synced(app: App, dbs: Databases, host: Host, since: float) -> None:
    """Wait until Litestream has synced every database since that time. Raises HostError when it fails to start in time.

    The limit is BACK seconds, and more for large databases; a restore has none. Without S3 Litestream syncs nothing,
    because it first reads its position there. Then this returns once Litestream runs: the monitor reports the rest.
    """
    begun, patience = host.clock(), BACK + _bytes(dbs) / SLOWEST
    while not _is_synced(app, dbs, since):
        refusal = state.refusal(app)
        if refusal is not None and refusal["at"] >= since:
            raise HostError(refusal["what"], refusal["where"], refusal["fix"], refusal["code"])
        waited = host.clock() - begun
        if waited >= AWAY and litestream.is_running(app) and not _s3_answers(app):
            return
        if waited >= patience and host.systemd.show(app.stream_unit)[0].state != "activating":
            fix = f"journalctl -u {app.stream_unit} shows why"
            raise HostError(f"Litestream is not up after {patience:.0f} s", app.stream_unit, fix)
        host.sleep(POLL)


def _bytes(dbs: Databases) -> int:
    return sum(database.size + database.log_size for database in dbs.databases)


def _s3_answers(app: App) -> bool:
    with contextlib.suppress(HostError):
        epochs.bucket(app).check()
        return True
    return False


def _is_synced(app: App, dbs: Databases, since: float) -> bool:
    paths = [database.path for database in dbs.existing()]
    return bool(paths) and all(litestream.synced_txid(app, path, since) is not None for path in paths)


# ---------------------------------------------------------------------------------------------- pause and resume


def pause(app: App, host: Host, verify: bool = True) -> None:
    """Stop replication until `resume`; all writes are on S3 then.

    The app must not write any more. Raises HostError when S3 lacks writes (unless `verify` is False); replication is
    stopped in any case. Idempotent.
    """
    dbs = settings.require(app)
    if dbs.backup is None:
        return
    ran = litestream.is_running(app)
    state.pause(app, "hostctl works on the database")
    host.systemd.stop(app.stream_unit)
    if verify and epochs.superseded(app) is None:
        _verify(app, dbs, ran)


def _verify(app: App, dbs: Databases, ran: bool) -> None:
    """Check on S3 that every committed write is there, and send the missing ones. Raises HostError."""
    local = epochs.local(app)
    if local is None:
        return
    if _missing(app, dbs, local.epoch) or not ran:
        litestream.send_pending(app, dbs, local.epoch, snapshot=False)
    if missing := _missing(app, dbs, local.epoch):
        what = f"the last writes to {', '.join(missing)} are not on S3"
        raise HostError(what, "the backup on S3", "deploy backup status shows the cause; then try again")


def _missing(app: App, dbs: Databases, epoch: str) -> list[str]:
    """The names of the databases of which S3 lacks writes."""
    store = epochs.bucket(app)
    return [database.name for database in dbs.existing() if not _is_complete(store, epoch, database)]


def _is_complete(store: s3.Bucket, epoch: str, database: Database) -> bool:
    local = litestream.local_txid(database)
    return litestream.stored_txid(store, epoch, database.name, local) >= local


def resume(app: App, host: Host, snapshot: bool = False) -> None:
    """The undo of `pause`; with `snapshot` after a full snapshot. Idempotent.

    Does not wait until Litestream runs. A snapshot that fails stays required.
    """
    dbs, local = settings.require(app), epochs.local(app)
    if dbs.backup is None:
        return
    if snapshot:
        state.require_full(app, "the data was replaced")
        if local is not None and not litestream.is_running(app):
            with contextlib.suppress(HostError):
                litestream.send_pending(app, dbs, local.epoch, snapshot=True)
                state.full_taken(app)
    state.resume(app)
    if epochs.superseded(app) is None:
        state.clear_refusal(app)
        host.systemd.start(app.stream_unit)


def restart(app: App, host: Host, why: str) -> None:
    """Restart Litestream without missing a write, with a full snapshot in between.

    A snapshot that was required opens an epoch: in the old one Litestream's next compaction could restore damaged
    pages. Raises HostError; Litestream runs in any case. Nothing is stopped while S3 does not answer.
    """
    with state.exclusive(app):
        dbs, required = settings.require(app), state.full_required(app)
        state.require_full(app, why)
        epochs.bucket(app).check()
        with owner.hold(dbs.user, [database.path for database in dbs.existing()]):
            _restart(app, dbs, host, required)


def _restart(app: App, dbs: Databases, host: Host, required: FullRequired | None) -> None:
    host.systemd.stop(app.stream_unit)
    begun = time.time()
    try:
        if epochs.superseded(app) is None:
            _snapshot(app, dbs, required)
    finally:
        state.clear_refusal(app)
        host.systemd.start(app.stream_unit)
    wait_until_synced(app, dbs, host, begun)


def _snapshot(app: App, dbs: Databases, required: FullRequired | None) -> None:
    """Send a full snapshot; a required one into a new epoch, which CURRENT names only once the snapshot is complete."""
    epoch = epochs.local(app)
    if epoch is None or dbs.backup is None:
        return
    if required is not None:
        epoch = epochs.new_local(app, dbs.backup, epoch, required["why"])
    litestream.send_pending(app, dbs, epoch.epoch, snapshot=True)
    if required is not None:
        epochs.publish(app, epochs.bucket(app))
    state.full_taken(app)
