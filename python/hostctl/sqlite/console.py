"""SQLite's part of `hostctl APP db`: the console, copies of a database, and the check of a file to load."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path

from hostctl.backup import settings
from hostctl.backup.settings import Database
from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.accounts import become
from hostctl.sqlite.database import files
from hostctl.sqlite.database.sql_console import Console, open_live


def database_name(app: App, name: str | None) -> str:
    """The name of the database of that name, else of the main one. Raises HostError (usage)."""
    return find(app, name).name


def find(app: App, name: str | None) -> Database:
    """The database of that name, else the main one. Raises HostError (usage)."""
    dbs = settings.require(app)
    database = dbs.named(name) if name else dbs.main
    if not database.path.is_file():
        what = f"the file of the database {database.name} does not exist"
        raise HostError(what, str(database.path), "deploy backup status", USAGE)
    return database


# ---------------------------------------------------------------------------------------------- console


def open_console(app: App, name: str, write: bool) -> int:
    """A console on the live database, as the app's own user. Returns the exit code. Raises HostError."""
    database = find(app, name)
    become(settings.require(app).user)
    mode = "writable; each statement commits at once, unless you BEGIN" if write else "read only, --write to change it"
    with open_live(database.path, write) as connection:
        Console(connection, sys.stdin, sys.stdout).run(f"{database.path}: {mode}; .help lists the commands")
    return 0


# ---------------------------------------------------------------------------------------------- files


def copy(app: App, name: str, sql: bool, scratch: Path) -> Path:
    """A consistent copy below `scratch`: a SQLite file, or SQL text. Raises HostError."""
    database = find(app, name)
    need = files.size_with_wal(database.path) * (3 if sql else 1)
    disk.require_space(scratch, need + disk.SPARE, "a copy")
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
    """Raises HostError (usage) unless a file may replace the live database."""
    if faults := files.integrity_faults(file):
        what = f"this is no sound SQLite database: {'; '.join(faults[:3])}"
        raise HostError(what, str(file), "load another file", USAGE)
