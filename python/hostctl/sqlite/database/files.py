"""Reads, writes, copies and creates SQLite files, and never checkpoints a live database.

The content of an app's file is what the app wants it to be, so only a process of the app's user opens it: see `owner`.

The last connection to a database checkpoints when it closes, and pages that are checkpointed while Litestream does not
read them may never reach S3. A read-only connection cannot checkpoint: so every reader opens the file read-only, and a
writer closes its connection while a read-only one of the same process still has the file open.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hostctl.common.errors import HostError
from hostctl.common.files import sync_directory

BUSY = 5.0  # seconds to wait for another writer
LOCKED = "database-locked"  # reason of a HostError
PRIMARY = 0xFF  # the bits of the primary code in an extended one (sqlite.org/rescode.html)
CANARY = "_homeport_canary"
KEPT = 10_000  # rows of the canary table
_TABLE = f"CREATE TABLE IF NOT EXISTS {CANARY}(n INTEGER PRIMARY KEY, at REAL NOT NULL)"
SIDECARS = ("-wal", "-shm", "-journal")


class Contents(NamedTuple):
    """The facts by which two copies of a database are compared. `tables`: number of rows by name, without the tables of
    SQLite and Litestream.
    """

    tables: dict[str, int]
    schema: str
    versions: tuple[int, ...]
    canary: tuple[int, int, int]  # hostctl's numbered rows: the first, the last, how many; all 0 without any


def connect(path: Path, write: bool = False) -> sqlite3.Connection:
    """A connection that never checkpoints while it is open; each statement is its own transaction.

    With `write`, it must be closed before another connection of this process to the file: see `writing`. Raises
    HostError.
    """
    _require_plain_files(path)
    mode = "rw" if write else "ro"
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode={mode}", timeout=BUSY, isolation_level=None, uri=True)
        harden(connection)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        if not write:
            connection.execute("PRAGMA query_only=1")
    except sqlite3.Error as error:
        raise sqlite_error(path, error) from None
    return connection


def harden(connection: sqlite3.Connection) -> None:
    """Distrust what the file says (sqlite.org/security.html): its views, triggers and checks call no function and no
    virtual table that has effects, and no statement damages the file.
    """
    connection.execute("PRAGMA trusted_schema=0")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection. Raises HostError for every error of SQLite."""
    connection = connect(path)
    try:
        yield connection
    except sqlite3.Error as error:
        raise sqlite_error(path, error) from None
    finally:
        connection.close()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that writes. A read-only one is closed after it, so that no close checkpoints.

    Raises HostError for every error of SQLite, such as a database that stays locked.
    """
    with hold(path):
        connection = connect(path, write=True)
        try:
            yield connection
        except sqlite3.Error as error:
            raise sqlite_error(path, error) from None
        finally:
            connection.close()


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """A read transaction: while it lasts, no checkpoint overwrites the log. Raises HostError."""
    with reading(path) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield


def _require_plain_files(path: Path) -> None:
    """Raises HostError for a link, which may be a mistake, or a missing database."""
    for name in ("", *SIDECARS):
        if path.with_name(path.name + name).is_symlink():
            what = f"{path.name}{name} is a symbolic link, which hostctl does not follow"
            raise HostError(what, str(path), "replace the link with the file")
    if not path.is_file():
        raise HostError("there is no database", str(path), "see deploy status")


def sqlite_error(path: Path, error: sqlite3.Error) -> HostError:
    """An error of SQLite as a HostError; `reason` is LOCKED where another connection held the database."""
    if getattr(error, "sqlite_errorcode", 0) & PRIMARY in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        fix = "another process holds a write transaction open: end it, and try again"
        return HostError(f"the database stayed locked for {BUSY:g} s", str(path), fix, reason=LOCKED)
    fix = "deploy backup drill checks whether the backup is sound; deploy restore restores it"
    return HostError(f"SQLite: {error}", str(path), fix)


# ---------------------------------------------------------------------------------------------- canary


def write_canary(path: Path) -> int:
    """Write the next numbered row and delete the oldest; returns its number. Raises HostError."""
    with writing(path) as connection:
        connection.execute(_TABLE)
        connection.execute("BEGIN IMMEDIATE")
        (number,) = connection.execute(f"SELECT coalesce(max(n), 0) + 1 FROM {CANARY}").fetchone()  # noqa: S608
        connection.execute(f"INSERT INTO {CANARY} VALUES (?, ?)", (number, time.time()))  # noqa: S608
        connection.execute(f"DELETE FROM {CANARY} WHERE n <= ?", (number - KEPT,))  # noqa: S608
        connection.execute("COMMIT")
    return int(number)


def _canary(connection: sqlite3.Connection) -> tuple[int, int, int]:
    if not _exists(connection, CANARY):
        return 0, 0, 0
    first, last, count = connection.execute(f"SELECT min(n), max(n), count(*) FROM {CANARY}").fetchone()  # noqa: S608
    return first or 0, last or 0, count


# ---------------------------------------------------------------------------------------------- contents


def read_contents(path: Path) -> Contents:
    """The contents of the database, read in one transaction. Raises HostError."""
    with reading(path) as connection:
        connection.execute("BEGIN")
        return Contents(_tables(connection), _schema(connection), _versions(connection), _canary(connection))


_OWN = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND tbl_name NOT LIKE '\\_litestream\\_%' ESCAPE '\\'"


def _tables(connection: sqlite3.Connection) -> dict[str, int]:
    """The number of rows by table. Virtual tables are left out: their rows are in their shadow tables."""
    condition = f"type = 'table' AND {_OWN} AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    names = [name for (name,) in connection.execute(f"SELECT name FROM sqlite_schema WHERE {condition}")]  # noqa: S608
    return {name: _count(connection, name) for name in names}


def _count(connection: sqlite3.Connection, name: str) -> int:
    quoted = '"' + name.replace('"', '""') + '"'
    (rows,) = connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()  # noqa: S608
    return int(rows)


def _schema(connection: sqlite3.Connection) -> str:
    query = f"SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE {_OWN} ORDER BY type, name"  # noqa: S608
    return hashlib.sha256(repr(connection.execute(query).fetchall()).encode()).hexdigest()


def _versions(connection: sqlite3.Connection) -> tuple[int, ...]:
    """The versions of Ecto's migrations that are applied."""
    if not _exists(connection, "schema_migrations"):
        return ()
    rows = connection.execute("SELECT version FROM schema_migrations ORDER BY version").fetchall()
    return tuple(int(version) for (version,) in rows)


def migrations(path: Path) -> tuple[int, ...] | None:
    """The versions of Ecto's migrations that are applied; None without a table of them. Raises HostError."""
    with reading(path) as connection:
        return _versions(connection) if _exists(connection, "schema_migrations") else None


def _exists(connection: sqlite3.Connection, table: str) -> bool:
    return bool(
        connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchall()
    )


def integrity_faults(path: Path) -> list[str]:
    """The findings of PRAGMA integrity_check; none for a sound database. A database that cannot be read is one."""
    try:
        with reading(path) as connection:
            findings = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
    except HostError as error:
        return [error.what]
    return [] if findings == ["ok"] else findings


# ---------------------------------------------------------------------------------------------- files


def copy(source: Path, target: Path) -> None:
    """Make a consistent copy by SQLite's backup API, synced when this returns; `target` must not exist.

    Raises HostError, and then leaves no file.
    """
    part = _new(target)
    try:
        with reading(source) as connection, contextlib.closing(sqlite3.connect(part, isolation_level=None)) as into:
            into.execute("PRAGMA synchronous=OFF")  # synced once, below
            connection.backup(into)
        _settle(part, target)
    finally:
        forget(part)


def create(path: Path) -> None:
    """Create a database in WAL mode that has only the canary's table. Raises HostError when the file exists."""
    part = _new(path)
    try:
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_TABLE)
        _settle(part, path)
    except sqlite3.Error as error:
        raise sqlite_error(path, error) from None
    finally:
        forget(part)


def place(source: Path, target: Path) -> None:
    """Move a finished file to the place of a database, also to another file system.

    Raises HostError where a file exists: none is overwritten.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if source.stat().st_dev == target.parent.stat().st_dev:
        source.chmod(0o600)
        _settle(source, target)
        return
    part = _new(target)
    try:
        shutil.copyfile(source, part)
        _settle(part, target)
    finally:
        forget(part)
    source.unlink()


def _new(target: Path) -> Path:
    """Create an empty file beside the target, of mode 0600."""
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.new")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    return part


def _settle(part: Path, target: Path) -> None:
    """Sync a file, then give it its name by a hard link, which fails where a rename would overwrite."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        raise HostError("there is a database already", str(target), "move it to another place first") from None
    part.unlink()
    sync_directory(target.parent)


def forget(part: Path) -> None:
    """Remove a database and what SQLite keeps beside it; one that does not exist is no error."""
    for name in ("", *SIDECARS):
        part.with_name(part.name + name).unlink(missing_ok=True)
