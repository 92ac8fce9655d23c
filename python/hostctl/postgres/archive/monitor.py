"""The monitor of every minute: the server and its archiver, the arrival of writes on S3, the current epoch, the disk,
and the base backup that is due.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostctl.backup import epochs, s3, state, units
from hostctl.backup.settings import Backup
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

PATIENCE = 10.0  # seconds that a row may take to S3 before the watch stops waiting for it
FREE = 0.10  # of the disk: below it, what waits to be archived is given up
HELD = 4  # segments: fewer would not help the disk
FORGOTTEN = 60.0  # seconds after which a pause that nobody is at work under was left by a crash
LONGEST = 1 << 20  # bytes of the archiver's complaints
RETRY = 300.0  # seconds between two tries of a backup that failed
FAILING = 60.0  # seconds without a segment archived after which a failure is worth a word
ARCHIVER = (
    "SELECT coalesce(last_archived_wal, ''), coalesce(extract(epoch FROM last_archived_time), 0), "
    "coalesce(last_failed_wal, ''), coalesce(extract(epoch FROM last_failed_time), 0), failed_count "
    "FROM pg_stat_archiver"
)


class Archiver(NamedTuple):
    """What PostgreSQL says of its archiver. Times in seconds since the epoch; 0: never."""

    archived: str
    archived_at: float
    failed: str
    failed_at: float
    failures: int

    @property
    def fails(self) -> bool:
        """Whether its last try failed."""
        return self.failed_at > self.archived_at


# ---------------------------------------------------------------------------------------------- pure


def must_drop(held: int, size: int, most: int, free: float) -> bool:
    """Whether the waiting WAL must be dropped: `held` segments of `size` bytes, at most `most` bytes; `free` is the
    free share of the disk.
    """
    return held * size > most or (free < FREE and held >= HELD)


def due_backup(now: float, bases: Sequence[Base], backup: Backup, owed: bool) -> str | None:
    """The base backup that is due: "full", "incr", or None."""
    full = max((one.begun for one in bases if one.kind == "full"), default=None)
    if full is None or owed or now - full >= backup.full_interval:
        return "full"
    newest = max(one.begun for one in bases)
    return "incr" if now - newest >= backup.snapshot_interval else None


# ---------------------------------------------------------------------------------------------- the watch


def check(app: App, host: Host) -> Json:
    """Check once, and write the result to watch.json: time, seconds of lag, the last canary row, and the error.

    Does nothing while another process works on the replication. Raises HostError.
    """
    backup = cluster.require(app).backup
    if is_paused(app):
        return {"paused": True}
    if backup is None:
        return {"error": _served(app, host)}
    try:
        with replication.exclusive(app, patience=0):
            told = _look(app, backup, host)
    except replication.BusyError as other:
        return {"left_to": other.what}  # a provisioning, for one: the next look is in a minute
    write_json(app.backup / "watch.json", told)
    return told


def is_paused(app: App) -> bool:
    """Whether a transition exchanges the data now. A pause that a crash left is not respected for ever."""
    found = state.paused(app)
    if found is None:
        return False
    if journal.unfinished(app) or time.time() - found["at"] < FORGOTTEN:
        return True
    state.resume(app)
    return False


def _look(app: App, backup: Backup, host: Host) -> Json:
    before = read_json(app.backup / "watch.json") or {}
    told: Json = {"at": time.time(), "lag": None, "canary": before.get("canary"), "error": None}
    wrong = [_served(app, host)]
    _shorten(pgbackrest.log_file(app))
    if cluster.accepts_sessions(cluster.live_server(app)):
        timelines.record_live(app)
        drill.remove_leftovers(app)
        wrong += [*_archived(app, backup, host), _counts(app, host)]
        told["canary"], late = _arrives(app, backup, host)
        wrong += [late, _backed_up(app, backup, host)]
    since = None if wal_stream.lag(app) == 0 else before.get("since") or told["at"]
    told |= {"lag": _lag(app, since), "since": since}
    return {**told, "error": next((one for one in wrong if one), None)}


def _shorten(log: Path) -> None:
    """A year without S3 must not fill the disk with complaints."""
    if log.exists() and log.stat().st_size > LONGEST:
        os.truncate(log, 0)


def _lag(app: App, since: float | None) -> float:
    found = wal_stream.lag(app)
    return found if found is not None else round(time.time() - since, 3) if since else 0.0


def _served(app: App, host: Host) -> str | None:
    """See that the server runs, and runs what is installed; returns what was wrong with it."""
    if not host.systemd.show(app.cluster_unit)[0].runs:
        with suppress(HostError):
            cluster.start(app, host)
        return "PostgreSQL did not run"
    if not cluster.accepts_sessions(cluster.live_server(app)):
        return "PostgreSQL does not answer"
    # without S3 a stop takes long: the archiver tries to the end
    if journal.unfinished(app) or host.systemd.show(units.run_unit(app))[0].runs or wal_stream.lag(app):
        return None
    try:
        note = cluster.restart_if_updated(app, host)
    except HostError as error:
        return error.what
    if note is not None:
        audit.note(app, "hostctl", "", "db update", note)
    return None


# ---------------------------------------------------------------------------------------------- who counts


def _counts(app: App, host: Host) -> str | None:
    """See that CURRENT is this host's, and note it if not; returns what is wrong."""
    try:
        store = epochs.bucket(app)
        return _compared(app, host, store, epochs.current(app, store))
    except HostError as error:
        return error.what


def _compared(app: App, host: Host, store: s3.Bucket, now: epochs.Epoch | None) -> str | None:
    mine = epochs.local(app)
    if mine is None:
        return "nothing is archived: this host has no epoch"
    if now is not None and now.epoch == mine.epoch:
        epochs.clear_superseded(app)
        epochs.publish(app, store)
    elif not mine.published and (now is None or now.epoch == mine.replaces):
        epochs.publish(app, store)
    elif now is None:
        opened = epochs.open_epoch(app, mine._replace(published=False, parent=mine.epoch), "CURRENT was gone")
        replication.switch_epoch(app, host, opened)
        return "CURRENT is gone from the bucket: another epoch is opened"
    else:
        return str(epochs.mark_superseded(app, now)["why"])
    timelines.publish(app)
    return None if replication.ensure_repository(app) else "the repository of pgBackRest cannot be prepared"


# ---------------------------------------------------------------------------------------------- what waits


def _archived(app: App, backup: Backup, host: Host) -> list[str | None]:
    """Look at the archiver and at the disk, and act where the disk would fill; returns what is wrong."""
    found, held = read_archiver(app), replication.unarchived(app)
    if dropping_since(app) is not None:
        return [_picked_up(app) or "the log of PostgreSQL is dropped: it cannot be archived"]
    if must_drop(len(held), segment_size(app), backup.max_wal, _free(app.cluster)):
        drop_wal(app, found)
        return [f"{len(held)} segments of PostgreSQL's log waited for S3: they are dropped, so that the disk holds"]
    if found.fails and time.time() - found.archived_at > FAILING:
        return [f"PostgreSQL's log is not archived since {_when(found.archived_at)}: {replication.archive_error(app)}"]
    return []


def read_archiver(app: App) -> Archiver:
    """Raises HostError when the server cannot be asked."""
    (row,) = cluster.query(cluster.live_server(app), ARCHIVER)
    return Archiver(row[0], float(row[1]), row[2], float(row[3]), int(row[4]))


def _when(at: float) -> str:
    return utc(at) if at else "the server was started"


def segment_size(app: App) -> int:
    """Bytes of a segment of the log."""
    (row,) = cluster.query(cluster.live_server(app), "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
    return int(row[0])


def _free(path: Path) -> float:
    usage = shutil.disk_usage(path)
    return usage.free / usage.total


def drop_marker(app: App) -> Path:
    """While this file is there, the server's archive_command says that it has archived, and does not."""
    return app.cluster / "dropping"


def dropping_since(app: App) -> Json | None:
    """Since when WAL is dropped; None while it is not."""
    return read_json(drop_marker(app))


def drop_wal(app: App, found: Archiver) -> None:
    """Drop the WAL that waits to be archived: until the next base backup nothing later can be restored."""
    now = time.time()
    since = found.archived_at or now
    timelines.change(app, lambda line: line._replace(gaps=(*line.gaps, Gap(since))))
    append_json(app.backup / "gaps.jsonl", {"at": now, "since": since}, durable=True)
    state.require_full(app, "log was dropped because it could not be archived")
    write_json(drop_marker(app), {"at": now, "since": since}, mode=0o644)
    with suppress(HostError):
        cluster.query(cluster.live_server(app), "CHECKPOINT", timeout=600)


def _picked_up(app: App) -> str | None:
    """Archive again as soon as S3 answers; a base backup is owed since the mark was made."""
    try:
        epochs.bucket(app).check()
    except HostError as error:
        return f"the log of PostgreSQL is dropped: {error.what}"
    unlink(drop_marker(app))
    return "the log of PostgreSQL was dropped; S3 answers again, and a full backup is taken"


def close_gaps(app: App, base: Base) -> None:
    """End the gaps before a finished full base backup."""
    timelines.change(app, lambda line: line._replace(gaps=tuple(_healed(gap, base) for gap in line.gaps)))


def _healed(gap: Gap, base: Base) -> Gap:
    return gap if gap.until or gap.since > base.begun else Gap(gap.since, base.ended)


# ---------------------------------------------------------------------------------------------- whether it arrives


def _arrives(app: App, backup: Backup, host: Host) -> tuple[int | None, str | None]:
    """Write a row, and wait until it is on S3; returns its number, and why it is not there."""
    number = None
    stopped = replication.ensure_wal_stream(app, host, anew=False)
    try:
        number = inspect.write_canary(cluster.live_server(app), cluster.require(app))
        replication.wait_until_stored(app, min(PATIENCE, backup.max_lag), host)
    except HostError as error:
        return number, error.what
    return number, "the tail did not run" if stopped else None


# ---------------------------------------------------------------------------------------------- base backups


def known_bases(app: App) -> list[Base]:
    """The base backups of this host's epoch, as last read from the bucket."""
    return _seen(app) or []


def _seen(app: App) -> list[Base] | None:
    mine, found = epochs.local(app), read_json(app.backup / "bases.json")
    if mine is None or found is None or found["epoch"] != mine.epoch:
        return None
    return [Base(**one) for one in found["bases"]]


def refresh_bases(app: App) -> list[Base]:
    """Ask the bucket for the base backups of this host's epoch, and keep what it says. Raises HostError."""
    mine = epochs.local(app)
    if mine is None:
        return []
    found = pgbackrest.bases(app, mine.epoch)
    told = {"epoch": mine.epoch, "at": time.time(), "bases": [one._asdict() for one in found]}
    write_json(app.backup / "bases.json", told)
    return found


def _backed_up(app: App, backup: Backup, host: Host) -> str | None:
    """Begin the base backup that is due; returns why the last one failed."""
    if dropping_since(app) is not None or host.systemd.show(units.run_unit(app))[0].runs:
        return None
    last = read_json(app.backup / "run.json")
    failed = last is not None and not last["ok"]
    try:
        # a host that lost what it had seen, or went back to an older epoch, finds its base backups in the bucket
        bases = found if (found := _seen(app)) is not None else refresh_bases(app)
    except HostError as error:
        return error.what
    wanted = due_backup(time.time(), bases, backup, state.full_required(app) is not None)
    if wanted is None:
        return None
    if not failed or time.time() - (last or {})["at"] >= RETRY:
        try:
            units.start_run(app, host)
        except HostError as error:
            return error.what
    return f"the last base backup failed: {(last or {})['found'][0]}" if failed else None
