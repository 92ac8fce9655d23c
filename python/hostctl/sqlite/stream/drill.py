"""SQLite's drill: restores every file by Litestream and compares it with the live one.

Litestream's own statement that everything is on S3 proves nothing. So the drill counts rows, compares contents, and
looks in the copy for the canary row that it wrote last before the restore.
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
from hostctl.common.documents import DrillResult
from hostctl.common.errors import HostError
from hostctl.common.files import remove_tree
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite.database import files, owner, scratch
from hostctl.sqlite.stream import litestream

# The live database changes meanwhile, so a busy table can differ from the copy without damage (rows whose numbers are
# used again). A difference in every round is damage.
ROUNDS = 3
PATIENCE = 60.0  # seconds that the canary row may take to reach S3, at least
HIDDEN = ("_homeport_", "_litestream_", "sqlite_")  # not the app's tables


def run(app: App, host: Host) -> DrillResult:
    """Drill every database; returns the result as backup.drill.run does. Raises HostError."""
    remove_tree(app.backup / "drill")  # of a drill of an older Homeport that was killed
    return drill.run(app, host, app.state / "drill", partial(_prove, settings.require(app)))


def _prove(dbs: Databases, work: Work) -> Iterator[tuple[str, Copy]]:
    scratch.make(work.scratch, dbs.user)
    drill.require_space(work.scratch, max(database.size + database.log_size for database in dbs.databases))
    yield from ((db.name, _checked_copy(work, dbs, db)) for db in dbs.databases if _is_streamed(work, dbs, db))


# ---------------------------------------------------------------------------------------------- one database


def _is_streamed(work: Work, dbs: Databases, database: Database) -> bool:
    """Whether the database exists: the app may create one of `extra` later. Raises HostError for a deleted one."""
    if database.exists:
        return True
    if database == dbs.main or litestream.restorable_times(work.app, dbs, work.epoch, database.name):
        raise HostError(
            f"{database.name} has a copy on S3, but is missing on this host", str(database.path), "deploy restore"
        )
    return False


def _checked_copy(work: Work, dbs: Databases, database: Database) -> Copy:
    """Restore and compare, up to ROUNDS times while they differ. A damaged copy comes with the newest time that can be
    restored.
    """
    copy = Copy([])
    for _ in range(ROUNDS):
        try:
            copy = _round(work, dbs, database)
        except DamagedCopyError as error:
            return Copy([str(error)], restorable=_restorable(work, dbs, database, time.time()))
        if not copy.found:
            return copy
    # only a comparison finds this damage: so no time after the last drill that passed is offered
    return copy._replace(restorable=_restorable(work, dbs, database, drill.proven_until(work.app) or 0.0))


def _round(work: Work, dbs: Databases, database: Database) -> Copy:
    """Restore and compare once. Raises DamagedCopyError, and HostError when no comparison is possible."""
    if not litestream.is_running(work.app):
        raise HostError("Litestream does not run", work.app.stream_unit, "deploy backup status")
    drill.report_step(work, f"{database.name}: reading the live database")
    before = _read_state(dbs.user, database.path)
    # written last: a copy with this row is newer than everything in `before`
    before = before._replace(canary=before.canary._replace(last=owner.write_canary(dbs.user, database.path)))
    drill.report_step(work, f"{database.name}: waiting until it is on S3")
    litestream.wait_until_stored(work.app, database.name, max(PATIENCE, work.backup.max_lag), work.host)
    target = work.scratch / "copy.db"
    drill.report_step(work, f"{database.name}: restoring {database.size + database.log_size} bytes")
    seconds = _restore(work, dbs, database, target)
    drill.report_step(work, f"{database.name}: comparing")
    try:
        restored = _read_copy(dbs.user, target, before)
        differences = compare(before, restored, _read_state(dbs.user, database.path, before))
        if database == dbs.main:
            differences += owner.run(dbs.user, lambda: verify(target, work.backup.verify), None)
        rows = sum(table.rows for table in restored.tables.values())
        return Copy(differences, owner.run(dbs.user, lambda: target.stat().st_size), seconds, restored.at, rows)
    finally:
        _remove(dbs.user, target)


def _restore(work: Work, dbs: Databases, database: Database, target: Path, at: float | None = None) -> float:
    """Restore a copy; returns the seconds that it took. Raises DamagedCopyError."""
    begun = work.host.clock()
    try:
        litestream.restore(work.app, dbs, work.epoch, database.name, target, at)
    except HostError as error:
        _remove(dbs.user, target)
        raise DamagedCopyError(error.what) from None
    return work.host.clock() - begun


def _read_copy(user: str, path: Path, before: DatabaseState | None = None) -> DatabaseState:
    """The state of a copy. Raises DamagedCopyError when SQLite finds it damaged."""
    faults = owner.integrity_faults(user, path)
    if faults:
        raise DamagedCopyError(f"SQLite finds the copy damaged: {'; '.join(faults[:3])}")
    try:
        return _read_state(user, path, before)
    except HostError as error:
        raise DamagedCopyError(f"the copy cannot be read: {error.what}") from None


def _restorable(work: Work, dbs: Databases, database: Database, until: float) -> float | None:
    """The newest moment up to `until` of which a sound copy can be restored; None when there is none."""
    drill.report_step(work, f"{database.name}: searching the newest copy that can be restored")

    def is_sound(at: float) -> bool:
        target = work.scratch / "older.db"
        try:
            _restore(work, dbs, database, target, at)
            return _read_copy(dbs.user, target).canary.missing == 0
        except DamagedCopyError:
            return False
        finally:
            _remove(dbs.user, target)

    with contextlib.suppress(HostError):
        times = litestream.restorable_times(work.app, dbs, work.epoch, database.name)
        return newest_sound([at for at in reversed(times) if at <= until], is_sound)
    return None


def _remove(user: str, target: Path) -> None:
    owner.run(user, lambda: files.forget(target))


# ---------------------------------------------------------------------------------------------- contents


def _read_state(user: str, path: Path, before: DatabaseState | None = None) -> DatabaseState:
    """As `read_state`, by the app's user."""
    tables, schema, versions, canary, at = owner.run(user, lambda: read_state(path, before), None)
    read = {name: Table(*table) for name, table in tables.items()}
    return DatabaseState(read, schema, tuple(versions), Canary(*canary), at)


def read_state(path: Path, before: DatabaseState | None = None) -> DatabaseState:
    """The state of a database; with `before`, of each table only up to its last row of then. Raises HostError."""
    contents = files.read_contents(path)
    canary, known = Canary(*contents.canary), before.tables if before else {}
    newest = f"SELECT at FROM {files.CANARY} ORDER BY n DESC LIMIT 1"  # noqa: S608 - no value from outside
    with files.reading(path) as connection:
        (at,) = connection.execute(newest).fetchone() if canary.rows else (0.0,)
        names = list(_app_tables(connection))
        connection.text_factory = bytes  # text that is not UTF-8 is compared too
        tables = {name: _table(connection, name, rowid, known.get(name)) for name, rowid in names}
    return DatabaseState(tables, contents.schema, contents.versions, canary, at)


def _app_tables(connection: sqlite3.Connection) -> Iterator[tuple[str, bool]]:
    """The app's tables, and whether their rows have numbers. The rows of a virtual table are in its shadow tables."""
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
    # NOT INDEXED: reads the pages of the table in their order, and not an index that has every column
    where, bound = ("WHERE _rowid_ <= ? ORDER BY _rowid_", (upto,)) if upto is not None else ("", ())
    rows, digest = 0, hashlib.sha256()
    for row in connection.execute(f"SELECT * FROM {quoted} NOT INDEXED {where}", bound):  # noqa: S608 - quoted
        digest.update(marshal.dumps(row, 2))
        rows += 1
    return Table(rows, digest.hexdigest(), upto)


def verify(path: Path, statements: tuple[str, ...]) -> list[str]:
    """The statements of `backup.verify` that fail on a copy: the first column of the first row must be true."""
    failures = []
    with files.reading(path) as connection:
        for statement in statements:
            reason = _failure(connection, statement)
            failures += [f"backup.verify: {reason}: {statement}"] if reason else []
    return failures


def _failure(connection: sqlite3.Connection, statement: str) -> str:
    """Why a statement fails; empty when it is true."""
    try:
        row = connection.execute(statement).fetchone()
        # true in SQL: '0', '' and NULL are not
        true = row is not None and bool(connection.execute("SELECT ? IS TRUE", (row[0],)).fetchone()[0])
    except (sqlite3.Error, sqlite3.Warning) as error:
        return str(error)
    return "" if true else f"not true but {row[0]!r}" if row else "no row"
