"""SQLite's part of `hostctl APP db`: the console, copies of a database, and the check of a file to load."""

from __future__ import annotations

import sqlite3.dump  # noqa: F401 - iterdump needs it in a child, which imports nothing that root alone may read
import sys
from functools import partial
from pathlib import Path

from hostctl.backup import settings
from hostctl.backup.settings import Database
from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.accounts import become
from hostctl.sqlite.database import files, owner, scratch
from hostctl.sqlite.database.sql_console import Console, open_live


def database_name(app: App, name: str | None) -> str:
    """The name of the database of that name, else of the main one. Raises HostError (usage)."""
    return find(app, name).name


def find(app: App, name: str | None) -> Database:
    """The database of that name, else the main one. Raises HostError (usage)."""
    dbs = settings.require(app)
    database = dbs.named(name) if name else dbs.main
    if not database.exists:
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


def copy(app: App, name: str, sql: bool, directory: Path) -> Path:
    """A consistent copy in `directory`, which is root's: a SQLite file, or SQL text. Raises HostError."""
    database, user = find(app, name), settings.require(app).user
    need = (database.size + database.log_size) * (3 if sql else 1)
    disk.require_space(directory, need + disk.SPARE, "a copy")
    target = directory / ("copy.sql" if sql else "copy.db")
    with scratch.opened(app.state / "dump.work", user) as work:
        owner.run(user, partial(_copy, database.path, work, sql), None)
        scratch.take(work, target.name, target, user)
    return target


def _copy(source: Path, work: Path, sql: bool) -> None:
    """Copy a database into a directory, as copy.db and, if so asked, as copy.sql."""
    files.copy(source, work / "copy.db")
    if sql:
        with files.reading(work / "copy.db") as connection, (work / "copy.sql").open("w") as file:
            file.write("PRAGMA foreign_keys = OFF;\n")
            file.writelines(f"{line}\n" for line in connection.iterdump())


def check_file(app: App, file: Path) -> None:
    """Raises HostError (usage) unless a file may replace the live database."""
    user = settings.require(app).user
    with scratch.opened(app.state / "load.work", user) as work:
        scratch.put(file, work, file.name, user)
        faults = owner.integrity_faults(user, work / file.name)
        scratch.take(work, file.name, file, user)
    if faults:
        what = f"this is no sound SQLite database: {'; '.join(faults[:3])}"
        raise HostError(what, str(file), "load another file", USAGE)
