"""What hostctl does with SQLite files. It never checkpoints a live database.

A connection that is the last to be closed checkpoints, and what is checkpointed behind Litestream's back may never
reach S3. A read-only connection cannot: so whatever only reads opens the file read-only, and a connection that writes
is closed while a read-only one of the same process still holds the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hostctl.common.errors import HostError
from hostctl.common.files import sync_directory

BUSY = 5.0  # seconds to wait for another writer
CANARY = "_homeport_canary"
KEPT = 10_000  # rows
_TABLE = f"CREATE TABLE IF NOT EXISTS {CANARY}(n INTEGER PRIMARY KEY, at REAL NOT NULL)"
SIDECARS = ("-wal", "-shm", "-journal")


class Contents(NamedTuple):
    """What two copies of a database are compared by. `tables`: rows by name, without SQLite's and Litestream's own."""

    tables: dict[str, int]
    schema: str
    versions: tuple[int, ...]
    canary: tuple[int, int, int]  # hostctl's numbered rows: the first, the last, how many; all 0 without any


def connect(path: Path, write: bool = False) -> sqlite3.Connection:
    """A connection that never checkpoints while it is open; each statement is its own transaction.

    With `write`, it must be closed before another one that holds the file: see `writing`. Raises HostError.
    """
    _plain(path)
    mode = "rw" if write else "ro"
    try:
        found = sqlite3.connect(f"{path.as_uri()}?mode={mode}", timeout=BUSY, isolation_level=None, uri=True)
        found.execute("PRAGMA wal_autocheckpoint=0")
        if not write:
            found.execute("PRAGMA query_only=1")
    except sqlite3.Error as error:
        raise sqlite_error(path, error) from None
    return found


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection. Raises HostError for what SQLite refuses."""
    connection = connect(path)
    try:
        yield connection
    except sqlite3.Error as error:
        raise sqlite_error(path, error) from None
    finally:
        connection.close()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that writes, never the last of its process to be closed, so that closing it checkpoints nothing.

    Raises HostError for what SQLite refuses, such as a database that stays locked.
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
    """A read transaction: nobody's checkpoint overwrites the log as long as it lasts. Raises HostError."""
    with reading(path) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield


def _plain(path: Path) -> None:
    """The directory is the app's, and root follows no link in it."""
    for name in ("", *SIDECARS):
        if path.with_name(path.name + name).is_symlink():
            what = f"{path.name}{name} is a symbolic link, which hostctl does not follow"
            raise HostError(what, str(path), "put the file itself there")
    if not path.is_file():
        raise HostError("there is no database", str(path), "deploy status tells what is so")


def sqlite_error(path: Path, error: sqlite3.Error) -> HostError:
    """What SQLite refused, as a HostError."""
    text = str(error)
    if "locked" in text or "busy" in text:
        fix = "something holds a write transaction open: end it, and try again"
        return HostError(f"the database stayed locked for {BUSY:g} s", str(path), fix)
    fix = "deploy backup drill tells whether the backup is sound; deploy restore brings it back"
    return HostError(f"SQLite: {text}", str(path), fix)


# ---------------------------------------------------------------------------------------------- canary


def write_canary(path: Path) -> int:
    """Write the next numbered row, and forget the oldest; returns its number. Raises HostError."""
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


# ---------------------------------------------------------------------------------------------- look


def read_contents(path: Path) -> Contents:
    """What is in the database, as of one moment. Raises HostError."""
    with reading(path) as connection:
        connection.execute("BEGIN")
        return Contents(_tables(connection), _schema(connection), _versions(connection), _canary(connection))


_OWN = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND tbl_name NOT LIKE '\\_litestream\\_%' ESCAPE '\\'"


def _tables(connection: sqlite3.Connection) -> dict[str, int]:
    """Virtual tables are left out: what they show is in the tables below them."""
    wanted = f"type = 'table' AND {_OWN} AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    names = [name for (name,) in connection.execute(f"SELECT name FROM sqlite_schema WHERE {wanted}")]  # noqa: S608
    return {name: _count(connection, name) for name in names}


def _count(connection: sqlite3.Connection, name: str) -> int:
    quoted = '"' + name.replace('"', '""') + '"'
    (rows,) = connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()  # noqa: S608
    return int(rows)


def _schema(connection: sqlite3.Connection) -> str:
    wanted = f"SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE {_OWN} ORDER BY type, name"  # noqa: S608
    return hashlib.sha256(repr(connection.execute(wanted).fetchall()).encode()).hexdigest()


def _versions(connection: sqlite3.Connection) -> tuple[int, ...]:
    """What Ecto has migrated."""
    if not _exists(connection, "schema_migrations"):
        return ()
    rows = connection.execute("SELECT version FROM schema_migrations ORDER BY version").fetchall()
    return tuple(int(version) for (version,) in rows)


def migrations(path: Path) -> tuple[int, ...] | None:
    """What Ecto has migrated; None where it keeps no table of it. Raises HostError."""
    with reading(path) as connection:
        return _versions(connection) if _exists(connection, "schema_migrations") else None


def _exists(connection: sqlite3.Connection, table: str) -> bool:
    return bool(
        connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchall()
    )


def integrity_faults(path: Path) -> list[str]:
    """What PRAGMA integrity_check finds: nothing in a sound database. What cannot even be read is a finding."""
    try:
        with reading(path) as connection:
            found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
    except HostError as error:
        return [error.what]
    return [] if found == ["ok"] else found


# ---------------------------------------------------------------------------------------------- files


def copy(source: Path, target: Path, owner: str | None = None) -> None:
    """A consistent copy by SQLite's own backup, on disk when this returns; `target` must not be there.

    Raises HostError, and leaves nothing.
    """
    part = _new(target, owner)
    try:
        with reading(source) as connection, contextlib.closing(sqlite3.connect(part, isolation_level=None)) as into:
            into.execute("PRAGMA synchronous=OFF")  # synced once, below
            connection.backup(into)
        _settle(part, target)
    finally:
        _forget(part)


def create(path: Path, owner: str | None = None) -> None:
    """Make a database that is empty but for the canary's table, in WAL mode. An existing file is never touched.

    Raises HostError when there is one.
    """
    part = _new(path, owner)
    try:
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_TABLE)
        _settle(part, path)
    except sqlite3.Error as error:
        raise sqlite_error(path, error) from None
    finally:
        _forget(part)


def place(part: Path, target: Path, owner: str | None = None) -> None:
    """Put a finished file where a database is to be. An existing file is never overwritten: HostError then."""
    with part.open("rb") as file:
        set_owner(file.fileno(), owner)
    _settle(part, target)


def _new(target: Path, owner: str | None) -> Path:
    """An empty file beside the target that nobody else can have prepared, the owner's already."""
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.new")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        set_owner(handle, owner)
    finally:
        os.close(handle)
    return part


def set_owner(handle: int, owner: str | None) -> None:
    """Mode 0600, and the owner's (None: stays whose it is). Raises HostError for an unknown user."""
    os.fchmod(handle, 0o600)
    if owner is None:
        return
    try:
        found = pwd.getpwnam(owner)
    except KeyError:
        raise HostError(f"there is no user {owner}", "/etc/passwd", "deploy provision") from None
    os.fchown(handle, found.pw_uid, found.pw_gid)


def _settle(part: Path, target: Path) -> None:
    """To disk, then to its name: a link fails where a rename would overwrite."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        raise HostError("there is a database already", str(target), "move it aside first") from None
    part.unlink()
    sync_directory(target.parent)


def _forget(part: Path) -> None:
    for name in ("", *SIDECARS):
        part.with_name(part.name + name).unlink(missing_ok=True)
