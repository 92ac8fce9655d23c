"""The drill: the newest backup is restored and compared with the live database. A backup counts only after it.

Litestream's own word that everything is on S3 proves nothing, so it is not believed here: rows are counted, content is
compared, hostctl's numbered rows are followed to the last one written before the restore began.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hostctl import databases, lineage, litestream, marks, sqlite
from hostctl.compare import Canary, Seen, Table, compare, newest_good
from hostctl.databases import Backup, Database, Databases
from hostctl.edges import Edges
from hostctl.errors import FAILED, LOCKED, HostError
from hostctl.files import Json, append_json, make_directory, read_json, remove_tree, unlink, write_json
from hostctl.layout import App
from hostctl.lock import Flock

# Live is written to all the while, so two looks at a busy table can differ from the copy by chance (rows whose numbers
# are used again). Damage is still there when the same is done anew.
ROUNDS = 3
SPARE = 256 << 20  # bytes left free beside the copy
PATIENCE = 60.0  # seconds at least that a row may take to S3
HIDDEN = ("_homeport_", "_litestream_", "sqlite_")  # not the app's tables


class Work(NamedTuple):
    """What one drill works on. `scratch` is root's alone and removed at the end."""

    app: App
    edges: Edges
    dbs: Databases
    backup: Backup
    epoch: str
    scratch: Path


class Copy(NamedTuple):
    """What came of one database. `seconds` is the restore alone, `up_to` when its newest numbered row was written."""

    found: list[str]
    bytes: int = 0
    seconds: float = 0.0
    up_to: float | None = None
    rows: int = 0
    restorable: float | None = None


# ---------------------------------------------------------------------------------------------- the drill as a whole


def run(app: App, edges: Edges) -> Json:
    """Drill, write down what came of it, and return it. Raises HostError when anything is wrong with the backup.

    Raises HostError (locked) when a drill runs already.
    """
    dbs, backup = databases.require_backup(app)
    make_directory(app.backup, 0o700)
    try:
        with Flock(app.backup / "drill.lock"):
            result = _written(app, _drilled(app, dbs, backup, edges))
            if result["ok"]:
                _forget_outlived(app, backup)
    except BlockingIOError:
        raise HostError("a drill runs already", str(app.backup), "deploy backup status", LOCKED) from None
    if not result["ok"]:
        raise _loud(app, result)
    return result


def _forget_outlived(app: App, backup: Backup) -> None:
    """Epochs beyond the retention go once the newest is proven. A bucket that lets nobody delete keeps them."""
    store = lineage.bucket(app)
    with contextlib.suppress(HostError):
        for epoch in lineage.outlived(lineage.chain(store), time.time() - backup.retention):
            lineage.drop(store, epoch)


def last(app: App) -> Json | None:
    """The last drill; `last_good` in it is the last one that found nothing. None before the first."""
    return read_json(app.backup / "drill.json")


def progress(app: App) -> str:
    """What a running drill does."""
    return str((read_json(app.backup / "drill.progress") or {}).get("step", ""))


def _drilled(app: App, dbs: Databases, backup: Backup, edges: Edges) -> Json:
    """The result of a drill; what keeps it from being one is a failure of it, too."""
    begun, clock = time.time(), edges.clock()
    scratch = app.backup / "drill"
    copies: dict[str, Copy] = {}
    epoch, trouble = None, []
    try:
        epoch = _epoch(app)
        _prepare(scratch, dbs)
        work = Work(app, edges, dbs, backup, epoch, scratch)
        for database in dbs.databases:
            if _streamed(work, database):
                copies[database.name] = _proven(work, database)
        trouble = _moved(app, epoch)
    except (HostError, OSError) as error:
        trouble = [error.what if isinstance(error, HostError) else f"{type(error).__name__}: {error}"]
    finally:
        remove_tree(scratch)
        unlink(app.backup / "drill.progress")
    return _result(begun, edges.clock() - clock, epoch, copies, trouble)


def _result(begun: float, took: float, epoch: str | None, copies: Mapping[str, Copy], trouble: list[str]) -> Json:
    found = [f"{name}: {what}" for name, copy in copies.items() for what in copy.found]
    times = [copy.up_to for copy in copies.values() if copy.up_to is not None]
    told: Json = {"at": begun, "ok": not found and not trouble, "epoch": epoch, "took": round(took, 3)}
    told |= {"seconds": round(sum(copy.seconds for copy in copies.values()), 3)}
    told |= {"bytes": sum(copy.bytes for copy in copies.values()), "rows": sum(copy.rows for copy in copies.values())}
    told |= {"found": found + trouble, "damaged": bool(found), "up_to": min(times) if times else None}
    return told | {"restorable": {name: copy.restorable for name, copy in copies.items() if copy.found}}


def _written(app: App, result: Json) -> Json:
    """Keep the result, and the last good one beside it."""
    before = last(app)
    short = {key: result[key] for key in ("at", "ok", "epoch", "seconds", "bytes", "found", "up_to")}
    append_json(app.backup / "drills.jsonl", short, durable=True)
    good = short if result["ok"] else before["last_good"] if before else None
    if result["damaged"]:
        # what is wrong may be a hole: a whole snapshot closes it (and nothing else does)
        marks.owe(app, "a drill found the backup damaged")
    told = {**result, "last_good": good}
    told |= {"offer": "" if result["ok"] else offer(told)}
    write_json(app.backup / "drill.json", told)
    return told


def _loud(app: App, result: Json) -> HostError:
    """The failure, said to the journal as an error as well."""
    what = f"the backup of {app.name} failed its drill: {'; '.join(result['found'])}"
    if "JOURNAL_STREAM" in os.environ:
        print(f"<3>{what}\n<3>{result['offer']}", file=sys.stderr, flush=True)
    mend = "a snapshot is forced within a minute; then run deploy backup drill again" if result["damaged"] else ""
    where = str(app.backup / "drill.json")
    return HostError(f"{what}. {result['offer']}", where, mend or "deploy backup status", FAILED)


def offer(result: Json) -> str:
    """What can still be restored when a drill failed."""
    known = list((result.get("restorable") or {}).values())
    if None in known:
        return "Nothing of this epoch is known to be whole: deploy backup list shows restore points and older epochs"
    up_to = (result.get("last_good") or {}).get("up_to")
    proven = f"a drill has proven it up to {_utc(up_to)}" if up_to else "no drill has ever passed here"
    if known:
        return f"It can be restored up to {_utc(min(known))} (deploy restore --at {_utc(min(known))}); {proven}"
    return f"What is wrong may be mended by itself; {proven}" + (
        f" (deploy restore --at {_utc(up_to)})" if up_to else ""
    )


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# ---------------------------------------------------------------------------------------------- before and after


def _epoch(app: App) -> str:
    """The epoch that this host streams to. Raises HostError when it is not the one that counts."""
    mine = lineage.local(app)
    if mine is None:
        raise HostError("nothing streams from here: this host has no epoch", str(app.backup), "deploy backup status")
    bucket = lineage.bucket(app)
    current = lineage.current(app, bucket)
    if current is None or current.epoch != mine.epoch:
        told = f"the backup belongs to {current.host}" if current else "the bucket names no epoch"
        raise HostError(f"this host is superseded: {told}", str(app.backup), "deploy backup takeover")
    return mine.epoch


def _moved(app: App, epoch: str) -> list[str]:
    """A restore that happened meanwhile makes the comparison worthless."""
    mine = lineage.local(app)
    same = mine is not None and mine.epoch == epoch
    return [] if same else ["the database was restored while it was drilled: run deploy backup drill again"]


def _prepare(scratch: Path, dbs: Databases) -> None:
    """An empty directory with room for the largest database. Raises HostError."""
    remove_tree(scratch)
    make_directory(scratch, 0o700)
    largest = max(size(database.path) for database in dbs.databases)
    needed, free = largest + largest // 10 + SPARE, shutil.disk_usage(scratch).free
    if free < needed:
        what = f"there is no room for a drill: it needs {needed >> 20} MB, and {free >> 20} MB are free"
        raise HostError(what, str(scratch), "free some space on the host (df -h tells), then deploy backup drill")


def size(path: Path) -> int:
    """Bytes of a database with its log."""
    return (path.stat().st_size if path.exists() else 0) + log_size(path)


def log_size(path: Path) -> int:
    """Bytes of a database's write-ahead log."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


# ---------------------------------------------------------------------------------------------- one database


def _streamed(work: Work, database: Database) -> bool:
    """Whether there is anything to prove: one of `extra` may not be made yet. Raises HostError for one that is gone."""
    if database.path.is_file():
        return True
    if database == work.dbs.main or litestream.times(work.app, work.dbs, work.epoch, database.name):
        raise HostError(f"{database.name} has a copy, and is gone from this host", str(database.path), "deploy restore")
    return False


def _proven(work: Work, database: Database) -> Copy:
    """Restore and compare, again when they differ. What is left of the damage's search goes with it."""
    copy = Copy([])
    for _ in range(ROUNDS):
        try:
            copy = _round(work, database)
        except BrokenError as error:
            return Copy([str(error)], restorable=_restorable(work, database, time.time()))
        if not copy.found:
            return copy
    # how far back it goes wrong only a comparison tells: so no further than the last one that found nothing
    proven = ((last(work.app) or {}).get("last_good") or {}).get("up_to")
    return copy._replace(restorable=_restorable(work, database, proven or 0.0))


class BrokenError(Exception):
    """The copy cannot be restored, or is no sound database. To try again would tell nothing new."""


def _round(work: Work, database: Database) -> Copy:
    """One restore. Raises BrokenError, and HostError when there is nothing to judge."""
    if not litestream.listening(work.app):
        raise HostError("Litestream does not run", work.app.stream_unit, "deploy backup status")
    _tell(work, f"{database.name}: reading the live database")
    before = see(database.path)
    # written last: a copy that has this row is of a later moment than all that was seen
    before = before._replace(canary=before.canary._replace(last=sqlite.canary(database.path)))
    _tell(work, f"{database.name}: waiting until it is on S3")
    litestream.catch_up(work.app, database.name, max(PATIENCE, work.backup.max_lag), work.edges)
    target = work.scratch / "copy.db"
    _tell(work, f"{database.name}: restoring {size(database.path)} bytes")
    seconds = _restore(work, database, target)
    _tell(work, f"{database.name}: comparing")
    try:
        restored = _sound(target, before)
        found = compare(before, restored, see(database.path, before))
        if database == work.dbs.main:
            found += verify(target, work.backup.verify)
        rows = sum(table.rows for table in restored.tables.values())
        return Copy(found, target.stat().st_size, seconds, restored.at, rows)
    finally:
        _remove(target)


def _restore(work: Work, database: Database, target: Path, at: float | None = None) -> float:
    """Fetch a copy; returns the seconds it took. Raises BrokenError."""
    begun = work.edges.clock()
    try:
        litestream.restore(work.app, work.dbs, work.epoch, database.name, target, at)
    except HostError as error:
        _remove(target)
        raise BrokenError(error.what) from None
    return work.edges.clock() - begun


def _sound(path: Path, before: Seen | None = None) -> Seen:
    """What is in a copy. Raises BrokenError when SQLite finds it damaged."""
    wrong = sqlite.integrity(path)
    if wrong:
        raise BrokenError(f"SQLite finds the copy damaged: {'; '.join(wrong[:3])}")
    try:
        return see(path, before)
    except HostError as error:
        raise BrokenError(f"the copy cannot be read: {error.what}") from None


def _restorable(work: Work, database: Database, until: float) -> float | None:
    """The newest moment up to `until` of which a sound copy can be restored; None when there is none."""
    _tell(work, f"{database.name}: looking for what can be restored")

    def good(at: float) -> bool:
        target = work.scratch / "older.db"
        try:
            _restore(work, database, target, at)
            return _sound(target).canary.missing == 0
        except BrokenError:
            return False
        finally:
            _remove(target)

    with contextlib.suppress(HostError):
        times = litestream.times(work.app, work.dbs, work.epoch, database.name)
        return newest_good([at for at in reversed(times) if at <= until], good)
    return None


def _remove(target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)


def _tell(work: Work, step: str) -> None:
    write_json(work.app.backup / "drill.progress", {"at": time.time(), "step": step}, durable=False)


# ---------------------------------------------------------------------------------------------- looking into a database


def see(path: Path, before: Seen | None = None) -> Seen:
    """Look into a database. With what was seen before, its tables are seen up to the same rows. Raises HostError."""
    look = sqlite.look(path)
    canary, known = Canary(*look.canary), before.tables if before else {}
    newest = f"SELECT at FROM {sqlite.CANARY} ORDER BY n DESC LIMIT 1"  # noqa: S608 - no value from outside
    with sqlite.reading(path) as connection:
        (at,) = connection.execute(newest).fetchone() if canary.rows else (0.0,)
        names = list(_named(connection))
        connection.text_factory = bytes  # whatever the app has put there is compared as it is
        tables = {name: _table(connection, name, rowid, known.get(name)) for name, rowid in names}
    return Seen(tables, look.schema, look.versions, canary, at)


def _named(connection: sqlite3.Connection) -> Iterator[tuple[str, bool]]:
    """The app's tables, and whether their rows have numbers. A virtual table's rows are in tables of their own."""
    for row in connection.execute("PRAGMA table_list"):
        schema, name, kind, _, without_rowid = row[:5]
        if schema == "main" and kind in ("table", "shadow") and not name.startswith(HIDDEN):
            yield name, not without_rowid


def _table(connection: sqlite3.Connection, name: str, rowid: bool, before: Table | None) -> Table:
    quoted = '"' + name.replace('"', '""') + '"'
    if before is not None:
        upto = before.upto
    else:
        upto = (connection.execute(f"SELECT max(_rowid_) FROM {quoted}").fetchone()[0] or 0) if rowid else None  # noqa: S608 - quoted
    # NOT INDEXED: the table's own pages, in their order, and not those of an index that happens to hold every column
    where, bound = ("WHERE _rowid_ <= ? ORDER BY _rowid_", (upto,)) if upto is not None else ("", ())
    rows, digest = 0, hashlib.sha256()
    for row in connection.execute(f"SELECT * FROM {quoted} NOT INDEXED {where}", bound):  # noqa: S608 - quoted
        digest.update(marshal.dumps(row, 2))
        rows += 1
    return Table(rows, digest.hexdigest(), upto)


def verify(path: Path, statements: tuple[str, ...]) -> list[str]:
    """What the app's own checks say of a copy: the first column of each statement's first row must be true."""
    found = []
    with sqlite.reading(path) as connection:
        for statement in statements:
            wrong = _denied(connection, statement)
            found += [f"backup.verify: {wrong}: {statement}"] if wrong else []
    return found


def _denied(connection: sqlite3.Connection, statement: str) -> str:
    try:
        row = connection.execute(statement).fetchone()
        # true as SQL has it: '0', '' and NULL are not
        true = row is not None and bool(connection.execute("SELECT ? IS TRUE", (row[0],)).fetchone()[0])
    except (sqlite3.Error, sqlite3.Warning) as error:
        return str(error)
    return "" if true else f"not true but {row[0]!r}" if row else "no row"
