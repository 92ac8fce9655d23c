"""SQLite's drill: every file is restored by Litestream and compared with the live one.

Litestream's own word that everything is on S3 proves nothing, so it is not believed here: rows are counted, content is
compared, hostctl's numbered rows are followed to the last one written before the restore began.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hostctl.backup import drill, settings
from hostctl.backup.compare import Canary, DatabaseState, Table, compare, newest_sound
from hostctl.backup.drill import Copy, DamagedCopyError, Work
from hostctl.backup.settings import Database, Databases
from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite import files, litestream

# Live is written to all the while, so two looks at a busy table can differ from the copy by chance (rows whose numbers
# are used again). Damage is still there when the same is done anew.
ROUNDS = 3
PATIENCE = 60.0  # seconds at least that a row may take to S3
HIDDEN = ("_homeport_", "_litestream_", "sqlite_")  # not the app's tables


def run(app: App, host: Host) -> Json:
    """Drill every database. As drill.run."""
    return drill.run(app, host, app.backup / "drill", partial(_prove, settings.require(app)))


def _prove(dbs: Databases, work: Work) -> Iterator[tuple[str, Copy]]:
    make_directory(work.scratch, 0o700)
    drill.require_space(work.scratch, max(size_with_wal(database.path) for database in dbs.databases))
    yield from ((one.name, _proven(work, dbs, one)) for one in dbs.databases if _streamed(work, dbs, one))


def size_with_wal(path: Path) -> int:
    """Bytes of a database with its log."""
    return (path.stat().st_size if path.exists() else 0) + wal_size(path)


def wal_size(path: Path) -> int:
    """Bytes of a database's write-ahead log."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


# ---------------------------------------------------------------------------------------------- one database


def _streamed(work: Work, dbs: Databases, database: Database) -> bool:
    """Whether there is anything to prove: one of `extra` may not be made yet. Raises HostError for one that is gone."""
    if database.path.is_file():
        return True
    if database == dbs.main or litestream.restorable_times(work.app, dbs, work.epoch, database.name):
        raise HostError(f"{database.name} has a copy, and is gone from this host", str(database.path), "deploy restore")
    return False


def _proven(work: Work, dbs: Databases, database: Database) -> Copy:
    """Restore and compare, again when they differ. What is left of the damage's search goes with it."""
    copy = Copy([])
    for _ in range(ROUNDS):
        try:
            copy = _round(work, dbs, database)
        except DamagedCopyError as error:
            return Copy([str(error)], restorable=_restorable(work, dbs, database, time.time()))
        if not copy.found:
            return copy
    # how far back it goes wrong only a comparison tells: so no further than the last one that found nothing
    return copy._replace(restorable=_restorable(work, dbs, database, drill.proven_until(work.app) or 0.0))


def _round(work: Work, dbs: Databases, database: Database) -> Copy:
    """One restore. Raises BrokenError, and HostError when there is nothing to judge."""
    if not litestream.is_running(work.app):
        raise HostError("Litestream does not run", work.app.stream_unit, "deploy backup status")
    drill.report_step(work, f"{database.name}: reading the live database")
    before = read_state(database.path)
    # written last: a copy that has this row is of a later moment than all that was seen
    before = before._replace(canary=before.canary._replace(last=files.write_canary(database.path)))
    drill.report_step(work, f"{database.name}: waiting until it is on S3")
    litestream.wait_until_stored(work.app, database.name, max(PATIENCE, work.backup.max_lag), work.host)
    target = work.scratch / "copy.db"
    drill.report_step(work, f"{database.name}: restoring {size_with_wal(database.path)} bytes")
    seconds = _restore(work, dbs, database, target)
    drill.report_step(work, f"{database.name}: comparing")
    try:
        restored = _sound(target, before)
        found = compare(before, restored, read_state(database.path, before))
        if database == dbs.main:
            found += verify(target, work.backup.verify)
        rows = sum(table.rows for table in restored.tables.values())
        return Copy(found, target.stat().st_size, seconds, restored.at, rows)
    finally:
        _remove(target)


def _restore(work: Work, dbs: Databases, database: Database, target: Path, at: float | None = None) -> float:
    """Fetch a copy; returns the seconds it took. Raises BrokenError."""
    begun = work.host.clock()
    try:
        litestream.restore(work.app, dbs, work.epoch, database.name, target, at)
    except HostError as error:
        _remove(target)
        raise DamagedCopyError(error.what) from None
    return work.host.clock() - begun


def _sound(path: Path, before: DatabaseState | None = None) -> DatabaseState:
    """What is in a copy. Raises BrokenError when SQLite finds it damaged."""
    wrong = files.integrity_faults(path)
    if wrong:
        raise DamagedCopyError(f"SQLite finds the copy damaged: {'; '.join(wrong[:3])}")
    try:
        return read_state(path, before)
    except HostError as error:
        raise DamagedCopyError(f"the copy cannot be read: {error.what}") from None


def _restorable(work: Work, dbs: Databases, database: Database, until: float) -> float | None:
    """The newest moment up to `until` of which a sound copy can be restored; None when there is none."""
    drill.report_step(work, f"{database.name}: looking for what can be restored")

    def good(at: float) -> bool:
        target = work.scratch / "older.db"
        try:
            _restore(work, dbs, database, target, at)
            return _sound(target).canary.missing == 0
        except DamagedCopyError:
            return False
        finally:
            _remove(target)

    with contextlib.suppress(HostError):
        times = litestream.restorable_times(work.app, dbs, work.epoch, database.name)
        return newest_sound([at for at in reversed(times) if at <= until], good)
    return None


def _remove(target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- looking into a database


def read_state(path: Path, before: DatabaseState | None = None) -> DatabaseState:
    """Look into a database. With what was seen before, its tables are seen up to the same rows. Raises HostError."""
    look = files.read_contents(path)
    canary, known = Canary(*look.canary), before.tables if before else {}
    newest = f"SELECT at FROM {files.CANARY} ORDER BY n DESC LIMIT 1"  # noqa: S608 - no value from outside
    with files.reading(path) as connection:
        (at,) = connection.execute(newest).fetchone() if canary.rows else (0.0,)
        names = list(_named(connection))
        connection.text_factory = bytes  # whatever the app has put there is compared as it is
        tables = {name: _table(connection, name, rowid, known.get(name)) for name, rowid in names}
    return DatabaseState(tables, look.schema, look.versions, canary, at)


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
    with files.reading(path) as connection:
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
