"""Replication of an app's SQLite files by Litestream: its actions, and every way to stop or restart it.

Litestream misses what is checkpointed while it is stopped. So a planned restart holds a read transaction on every
database, and after any other end a full snapshot is required, which the monitor takes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from hostctl.backup import epochs, s3, settings, state
from hostctl.backup.settings import Database, Databases
from hostctl.common.documents import FullRequired
from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import Json, make_directory
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite import bootstrap as preparing
from hostctl.sqlite import files, litestream

BACK = 60.0  # seconds that Litestream may take to have every database open again, and more for large ones
SLOWEST = 10 << 20  # bytes a second that it reads of them meanwhile
AWAY = 3.0  # seconds after which it is asked whether S3 answers at all
POLL = 0.1
OTHER = 600.0  # seconds that another restart may take, a snapshot included


# ---------------------------------------------------------------------------------------------- what the unit calls


def condition(app: App) -> Json:
    """Whether the unit may start. Raises HostError when it may not, so that systemd skips it."""
    why = _barred(app)
    if why is not None:
        raise HostError(f"nothing is streamed: {why}", str(app.backup), "deploy backup status", FAILED)
    return {}


def _barred(app: App) -> str | None:
    dbs = settings.load(app)
    if dbs is None or dbs.backup is None:
        return "no backup is configured"
    if (beaten := epochs.superseded(app)) is not None:
        return str(beaten["why"])
    if (paused := state.paused(app)) is not None:
        return str(paused["why"])
    refusal = state.refusal(app)
    return None if refusal is None or refusal["again"] else str(refusal["what"])


def stopped(app: App) -> Json:
    """Note how Litestream ended: after an unclean end a full snapshot is required."""
    was = state.running(app)
    result = os.environ.get("SERVICE_RESULT", "")
    if was is not None and result != "success":
        state.require_full(app, f"Litestream ended without being stopped ({result or 'unknown'})")
    state.ended(app)
    return {"clean": was is None or result == "success"}


# ---------------------------------------------------------------------------------------------- start


def start(app: App, host: Host, allow_empty: bool = False) -> Json:
    """Start Litestream with the current configuration; returns whether anything was changed.

    Restores or creates missing databases. Raises HostError when Litestream does not start.
    """
    dbs = settings.require(app)
    make_directory(app.backup, 0o700)
    if dbs.backup is None:
        return {"changed": preparing.create_main(dbs)}
    if (beaten := epochs.superseded(app)) is not None:
        return {"changed": False, "superseded": beaten}
    if (paused := state.paused(app)) is not None:
        return {"changed": False, "paused": paused}
    if allow_empty:
        state.allow_empty(app)
    if not host.systemd.show(app.stream_unit)[0].runs:
        return _started(app, dbs, host)
    begun = state.running(app)
    if begun is None or begun["fingerprint"] == preparing.fingerprint(app, host):
        wait_until_synced(app, dbs, host, time.time())
        return {"changed": False}
    restart(app, host, "it was configured anew")
    return {"changed": True}


def _started(app: App, dbs: Databases, host: Host) -> Json:
    begun = time.time()
    state.clear_refusal(app)
    host.systemd.start(app.stream_unit)
    wait_until_synced(app, dbs, host, begun)
    return {"changed": True}


def wait_until_synced(app: App, dbs: Databases, host: Host, since: float) -> None:
    """Wait until Litestream has looked at every database since that time. Raises HostError when it will not.

    A restore takes as long as it takes; anything else has `BACK` seconds, and its share for large databases. Without
    S3 Litestream looks at nothing (it asks there first how far it is), so then it is enough that it runs: the watch
    tells the rest.
    """
    begun, patience = host.clock(), BACK + _bytes(dbs) / SLOWEST
    while not _up(app, dbs, since):
        refusal = state.refusal(app)
        if refusal is not None and refusal["at"] >= since:
            raise HostError(refusal["what"], refusal["where"], refusal["fix"], refusal["code"])
        waited = host.clock() - begun
        if waited >= AWAY and litestream.is_running(app) and not _answers(app):
            return
        if waited >= patience and host.systemd.show(app.stream_unit)[0].state != "activating":
            fix = f"journalctl -u {app.stream_unit} tells why"
            raise HostError(f"Litestream is not up after {patience:.0f} s", app.stream_unit, fix)
        host.sleep(POLL)


def _bytes(dbs: Databases) -> int:
    files = [file for one in dbs.databases for file in (one.path, one.path.with_name(f"{one.path.name}-wal"))]
    return sum(file.stat().st_size for file in files if file.exists())


def _answers(app: App) -> bool:
    with contextlib.suppress(HostError):
        epochs.bucket(app).check()
        return True
    return False


def _up(app: App, dbs: Databases, since: float) -> bool:
    present = [one.path for one in dbs.databases if one.path.exists()]
    return bool(present) and all(litestream.synced_txid(app, path, since) is not None for path in present)


# ---------------------------------------------------------------------------------------------- stop and go on


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
    """Everything that was committed is on S3, read from there."""
    mine = epochs.local(app)
    if mine is None:
        return
    if _missing(app, dbs, mine.epoch) or not ran:
        litestream.send_pending(app, dbs, mine.epoch, snapshot=False)
    if missing := _missing(app, dbs, mine.epoch):
        what = f"what was written last to {', '.join(missing)} is not on S3"
        raise HostError(what, "the backup on S3", "deploy backup status tells what is wrong; then try again")


def _missing(app: App, dbs: Databases, epoch: str) -> list[str]:
    store = epochs.bucket(app)
    present = [one for one in dbs.databases if one.path.exists()]
    return [one.name for one in present if not _complete(store, epoch, one)]


def _complete(store: s3.Bucket, epoch: str, one: Database) -> bool:
    local = litestream.local_txid(one.path)
    return litestream.stored_txid(store, epoch, one.name, local) >= local


def resume(app: App, host: Host, snapshot: bool = False) -> None:
    """The undo of `pause`; with `snapshot` after a full snapshot. Idempotent.

    Does not wait until Litestream runs. A snapshot that fails stays required.
    """
    dbs, mine = settings.require(app), epochs.local(app)
    if dbs.backup is None:
        return
    if snapshot:
        state.require_full(app, "the data was exchanged")
        if mine is not None and not litestream.is_running(app):
            with contextlib.suppress(HostError):
                litestream.send_pending(app, dbs, mine.epoch, snapshot=True)
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
    with exclusive(app):
        dbs, debt = settings.require(app), state.full_required(app)
        state.require_full(app, why)
        epochs.bucket(app).check()
        present = [one for one in dbs.databases if one.path.exists()]
        with contextlib.ExitStack() as held:
            for one in present:
                held.enter_context(files.hold(one.path))
            _restarted(app, dbs, host, debt)


def _restarted(app: App, dbs: Databases, host: Host, debt: FullRequired | None) -> None:
    host.systemd.stop(app.stream_unit)
    begun = time.time()
    try:
        if epochs.superseded(app) is None:
            _snapshot(app, dbs, debt)
    finally:
        state.clear_refusal(app)
        host.systemd.start(app.stream_unit)
    wait_until_synced(app, dbs, host, begun)


def _snapshot(app: App, dbs: Databases, debt: FullRequired | None) -> None:
    """Send everything, whole; CURRENT moves to a new epoch only once all of it is there."""
    mine = epochs.local(app)
    if mine is None or dbs.backup is None:
        return
    if debt is not None:
        mine = epochs.new_local(app, dbs.backup, mine, debt["why"])
    litestream.send_pending(app, dbs, mine.epoch, snapshot=True)
    if debt is not None:
        epochs.publish(app, epochs.bucket(app))
    state.full_taken(app)


class BusyError(HostError):
    """Another process works on the replication."""


@contextlib.contextmanager
def exclusive(app: App, patience: float = OTHER) -> Iterator[None]:
    """A lock for work on the replication. Raises BusyError when another process does not end in time."""
    make_directory(app.backup, 0o700)
    busy = BusyError("another process works on the stream", str(app.backup), "try again")
    with lock.hold(app.backup / "lock", busy, patience):
        yield
