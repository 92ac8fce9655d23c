"""The monitor, which runs every minute: it checks the server and its archiver, the current epoch, the disk and the
arrival of writes on S3, and starts the base backup that is due.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

from hostctl.backup import epochs, s3, state, units
from hostctl.backup.settings import Backup
from hostctl.common.documents import DroppedWal, MonitorResult
from hostctl.common.errors import HostError
from hostctl.common.files import Json, append_json, read_json, unlink, write_json
from hostctl.common.timestamps import utc
from hostctl.core import audit
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal import journal
from hostctl.postgres.archive import drill, pgbackrest, replication, timelines, wal_stream
from hostctl.postgres.archive.timelines import Base, Gap
from hostctl.postgres.database import inspect
from hostctl.postgres.server import cluster

PATIENCE = 10.0  # seconds that the monitor waits for a row to arrive on S3
MIN_FREE = 0.10  # of the disk: below it, waiting WAL is dropped
MIN_WAITING = 4  # segments: dropping fewer would not help the disk
PAUSE_LIMIT = 60.0  # seconds after which a pause without a transition was left by a crash
LOG_LIMIT = 1 << 20  # bytes of the archiver's log
RETRY = 300.0  # seconds between two attempts of a backup that failed
FAILING = 60.0  # seconds without an archived segment after which a failure is reported
ARCHIVER = (
    "SELECT coalesce(last_archived_wal, ''), coalesce(extract(epoch FROM last_archived_time), 0), "
    "coalesce(last_failed_wal, ''), coalesce(extract(epoch FROM last_failed_time), 0), failed_count "
    "FROM pg_stat_archiver"
)


class Archiver(NamedTuple):
    """PostgreSQL's statistics of its archiver. Times in seconds since the epoch; 0: never."""

    archived: str
    archived_at: float
    failed: str
    failed_at: float
    failures: int

    @property
    def fails(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed_at > self.archived_at


# ---------------------------------------------------------------------------------------------- pure


def must_drop(waiting: int, size: int, most: int, free: float) -> bool:
    """Whether the waiting WAL must be dropped: `waiting` segments of `size` bytes, at most `most` bytes; `free` is the
    free share of the disk.
    """
    return waiting * size > most or (free < MIN_FREE and waiting >= MIN_WAITING)


def due_backup(now: float, bases: Sequence[Base], backup: Backup, required: bool) -> str | None:
    """The base backup that is due: "full", "incr", or None."""
    full = max((base.begun for base in bases if base.kind == "full"), default=None)
    if full is None or required or now - full >= backup.full_interval:
        return "full"
    newest = max(base.begun for base in bases)
    return "incr" if now - newest >= backup.snapshot_interval else None


# ---------------------------------------------------------------------------------------------- the check


def check(app: App, host: Host) -> Json:
    """Check once, and write the result to watch.json: time, seconds of lag, the last canary row, and the error.

    Does nothing while another process works on the replication. Raises HostError.
    """
    backup = cluster.require(app).backup
    cluster.make_directories(app)
    if is_paused(app):
        return {"paused": True}
    if backup is None:
        return {"error": _check_server(app, host)}
    try:
        with state.exclusive(app, patience=0):
            result = _check_all(app, backup, host)
    except state.BusyError as other:
        return {"left_to": other.what}  # such as a provisioning; the next check is in a minute
    write_json(app.backup / "watch.json", result)
    return {**result}


def is_paused(app: App) -> bool:
    """Whether a transition replaces the data now. Ends a pause that a crash left."""
    pause = state.paused(app)
    if pause is None:
        return False
    if journal.unfinished(app) or time.time() - pause["at"] < PAUSE_LIMIT:
        return True
    state.resume(app)
    return False


def _check_all(app: App, backup: Backup, host: Host) -> MonitorResult:
    before = read_json(app.backup / "watch.json") or {}
    result: MonitorResult = {"at": time.time(), "lag": None, "canary": before.get("canary"), "error": None}
    errors = [_check_server(app, host)]
    _truncate(pgbackrest.log_file(app))
    if cluster.accepts_sessions(cluster.live_server(app)):
        timelines.record_live(app)
        drill.remove_leftovers(app, host)
        errors += [*_check_archiver(app, backup, host), _check_epoch(app, host)]
        result["canary"], arrival_error = _check_arrival(app, backup, host)
        errors += [arrival_error, _check_backups(app, backup, host)]
    since = None if wal_stream.lag(app) == 0 else before.get("since") or result["at"]
    result |= {"lag": _lag(app, since), "since": since}
    return {**result, "error": next((error for error in errors if error), None)}


def _truncate(log: Path) -> None:
    """Empty a long log: a year without S3 must not fill the disk."""
    with suppress(FileNotFoundError):
        cluster.as_owner(lambda: os.truncate(log, 0) if log.stat().st_size > LOG_LIMIT else None)


def _lag(app: App, since: float | None) -> float:
    lag = wal_stream.lag(app)
    return lag if lag is not None else round(time.time() - since, 3) if since else 0.0


def _check_server(app: App, host: Host) -> str | None:
    """Start a server that does not run, and restart one after an update; returns what was wrong with it."""
    if not host.systemd.show(app.cluster_unit)[0].runs:
        with suppress(HostError):
            cluster.start(app, host)
        return "PostgreSQL did not run"
    if not cluster.accepts_sessions(cluster.live_server(app)):
        return "PostgreSQL does not answer"
    # without S3 a shutdown takes long, since the archiver keeps trying
    if journal.unfinished(app) or host.systemd.show(units.run_unit(app))[0].runs or wal_stream.lag(app):
        return None
    try:
        note = cluster.restart_if_updated(app, host)
    except HostError as error:
        return error.what
    if note is not None:
        audit.note(app, "hostctl", "", "db update", note)
    return None


# ---------------------------------------------------------------------------------------------- the current epoch


def _check_epoch(app: App, host: Host) -> str | None:
    """Check that CURRENT names this host's epoch, and mark the host as superseded if not; returns what is wrong."""
    try:
        store = epochs.bucket(app)
        return _compare_epoch(app, host, store, epochs.current(app, store))
    except HostError as error:
        return error.what


def _compare_epoch(app: App, host: Host, store: s3.Bucket, now: epochs.Epoch | None) -> str | None:
    own_epoch = epochs.local(app)
    if own_epoch is None:
        return "nothing is archived: this host has no epoch"
    if now is not None and now.epoch == own_epoch.epoch:
        epochs.clear_superseded(app)
        epochs.publish(app, store)
    elif not own_epoch.published and (now is None or now.epoch == own_epoch.replaces):
        epochs.publish(app, store)
    elif now is None:
        opened = epochs.open_epoch(
            app, own_epoch._replace(published=False, parent=own_epoch.epoch), "CURRENT was missing"
        )
        replication.switch_epoch(app, host, opened)
        return "CURRENT is missing from the bucket: a new epoch is opened"
    else:
        return str(epochs.mark_superseded(app, now)["why"])
    timelines.publish(app)
    return None if replication.ensure_repository(app) else "pgBackRest cannot create its repository"


# ---------------------------------------------------------------------------------------------- waiting WAL


def _check_archiver(app: App, backup: Backup, host: Host) -> list[str | None]:
    """Check the archiver and the disk, and drop WAL before the disk is full; returns what is wrong."""
    archiver, waiting = read_archiver(app), replication.unarchived(app)
    if dropping_since(app) is not None:
        return [_end_dropping(app)]
    if must_drop(len(waiting), segment_size(app), backup.max_wal, _free(app.cluster)):
        drop_wal(app, archiver)
        return [f"{len(waiting)} segments of WAL waited for S3: they are dropped, so that the disk does not fill up"]
    if archiver.fails and time.time() - archiver.archived_at > FAILING:
        return [f"WAL has not been archived since {_when(archiver.archived_at)}: {replication.archive_error(app)}"]
    return []


def read_archiver(app: App) -> Archiver:
    """The statistics of the archiver. Raises HostError when the server does not answer."""
    (row,) = cluster.query(cluster.live_server(app), ARCHIVER)
    return Archiver(row[0], float(row[1]), row[2], float(row[3]), int(row[4]))


def _when(at: float) -> str:
    return utc(at) if at else "the start of the server"


def segment_size(app: App) -> int:
    """Bytes of a WAL segment."""
    (row,) = cluster.query(cluster.live_server(app), "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
    return int(row[0])


def _free(path: Path) -> float:
    usage = shutil.disk_usage(path)
    return usage.free / usage.total


def drop_marker(app: App) -> Path:
    """While this file exists, the server's archive_command reports success without archiving."""
    return app.cluster / "dropping"


def dropping_since(app: App) -> DroppedWal | None:
    """Since when WAL is dropped; None while it is not."""
    return cast(DroppedWal | None, read_json(drop_marker(app)))


def drop_wal(app: App, archiver: Archiver) -> None:
    """Drop the WAL that waits to be archived: no later instant can be restored until the next base backup."""
    now = time.time()
    since = archiver.archived_at or now
    timelines.change(app, lambda line: line._replace(gaps=(*line.gaps, Gap(since))))
    marker: DroppedWal = {"at": now, "since": since}
    append_json(app.backup / "gaps.jsonl", marker, durable=True)
    state.require_full(app, "WAL was dropped because it could not be archived")
    write_json(drop_marker(app), marker, mode=0o644)
    with suppress(HostError):
        cluster.administer(cluster.live_server(app), "CHECKPOINT", timeout=600)


def _end_dropping(app: App) -> str:
    """Archive again once S3 answers; a full backup is required since the WAL was dropped. Returns what is wrong."""
    try:
        epochs.bucket(app).check()
    except HostError as error:
        return f"WAL is dropped: {error.what}"
    unlink(drop_marker(app))
    return "WAL was dropped; S3 answers again, and a full backup is taken"


def close_gaps(app: App, base: Base) -> None:
    """End the gaps before a finished full base backup."""
    timelines.change(app, lambda line: line._replace(gaps=tuple(_close(gap, base) for gap in line.gaps)))


def _close(gap: Gap, base: Base) -> Gap:
    return gap if gap.until or gap.since > base.begun else Gap(gap.since, base.ended)


# ---------------------------------------------------------------------------------------------- arrival on S3


def _check_arrival(app: App, backup: Backup, host: Host) -> tuple[int | None, str | None]:
    """Write a row, and wait until it is on S3; returns its number, and the error if it is not there."""
    number = None
    stopped = replication.ensure_wal_stream(app, host, anew=False)
    try:
        number = inspect.write_canary(cluster.live_server(app), cluster.require(app))
        replication.wait_until_stored(app, min(PATIENCE, backup.max_lag), host)
    except HostError as error:
        return number, error.what
    return number, "the WAL stream did not run" if stopped else None


# ---------------------------------------------------------------------------------------------- base backups


def known_bases(app: App) -> list[Base]:
    """The base backups of this host's epoch, as last read from the bucket."""
    return _read_bases(app) or []


def _read_bases(app: App) -> list[Base] | None:
    """The base backups in bases.json; None without one of this host's epoch."""
    own_epoch, document = epochs.local(app), read_json(app.backup / "bases.json")
    if own_epoch is None or document is None or document["epoch"] != own_epoch.epoch:
        return None
    return [Base(**base) for base in document["bases"]]


def refresh_bases(app: App) -> list[Base]:
    """Read the base backups of this host's epoch from the bucket, and write them to bases.json. Raises HostError."""
    own_epoch = epochs.local(app)
    if own_epoch is None:
        return []
    bases = pgbackrest.bases(app, own_epoch.epoch)
    document = {"epoch": own_epoch.epoch, "at": time.time(), "bases": [base._asdict() for base in bases]}
    write_json(app.backup / "bases.json", document)
    return bases


def _check_backups(app: App, backup: Backup, host: Host) -> str | None:
    """Start the base backup that is due; returns why the last one failed."""
    if dropping_since(app) is not None or host.systemd.show(units.run_unit(app))[0].runs:
        return None
    last = read_json(app.backup / "run.json")
    failed = last is not None and not last["ok"]
    try:
        # without the file, or after a return to an older epoch, only the bucket knows the base backups
        bases = known if (known := _read_bases(app)) is not None else refresh_bases(app)
    except HostError as error:
        return error.what
    if due_backup(time.time(), bases, backup, state.full_required(app) is not None) is None:
        return None
    if not failed or time.time() - (last or {})["at"] >= RETRY:
        try:
            units.start_run(app, host)
        except HostError as error:
            return error.what
    return f"the last base backup failed: {(last or {})['found'][0]}" if failed else None
