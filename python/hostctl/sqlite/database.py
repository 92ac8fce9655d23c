"""SQLite's console, copies to take away, and files that are to replace the live one: what `db` asks of this engine."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path

from hostctl.backup import settings
from hostctl.backup.settings import Database
from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import App
from hostctl.host.accounts import become
from hostctl.host.disk import require_room
from hostctl.sqlite import drill, files
from hostctl.sqlite.sql_console import Console, open_live


def database_name(app: App, name: str | None) -> str:
    """The name of the database of that name, else of the main one. Raises HostError (usage)."""
    return find(app, name).name


def find(app: App, name: str | None) -> Database:
    """The database of that name, else the main one. Raises HostError (usage)."""
    dbs = settings.require(app)
    found = dbs.named(name) if name else dbs.main
    if not found.path.is_file():
        raise HostError(f"the database {found.name} is not there", str(found.path), "deploy backup status", USAGE)
    return found


# ---------------------------------------------------------------------------------------------- console


def open_console(app: App, name: str, write: bool) -> int:
    """A console on the live database, as the app's own user. Returns the exit code. Raises HostError."""
    database = find(app, name)
    become(settings.require(app).user)
    told = "you may write; a statement counts at once, unless you BEGIN" if write else "read only, --write to change it"
    with open_live(database.path, write) as connection:
        Console(connection, sys.stdin, sys.stdout).run(f"{database.path}: {told}; .help tells more")
    return 0


# ---------------------------------------------------------------------------------------------- files


def copy(app: App, name: str, sql: bool, scratch: Path) -> Path:
    """A consistent copy below `scratch`: a SQLite file, or SQL text. Raises HostError."""
    database = find(app, name)
    require_room(scratch, drill.size_with_wal(database.path) * (3 if sql else 1), "a copy")
    target = scratch / "copy.db"
    files.copy(database.path, target)
    return _as_sql(target) if sql else target


def _as_sql(path: Path) -> Path:
    target = path.with_suffix(".sql")
    with contextlib.closing(sqlite3.connect(path)) as connection, target.open("w") as file:
        file.write("PRAGMA foreign_keys = OFF;\n")
        file.writelines(f"{line}\n" for line in connection.iterdump())
    return target


def check_file(_: App, file: Path) -> None:
    """Whether a file may replace the live database. Raises HostError (usage)."""
    if wrong := files.integrity_faults(file):
        what = f"this is no sound SQLite database: {'; '.join(wrong[:3])}"
        raise HostError(what, str(file), "load another file", USAGE)
