"""`hostctl APP db ACTION`: a console on the live database, a copy of it to take away, and another one in its place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hostctl import audit, databases, drill, sqlite
from hostctl.console import Console, live
from hostctl.databases import Database
from hostctl.edges import Edges
from hostctl.errors import DONE, LOCKED, USAGE, HostError
from hostctl.files import Json, make_directory, remove_tree, unlink
from hostctl.layout import App
from hostctl.lock import Flock
from hostctl.names import transition_id

CHUNK = 1 << 20
SPARE = 256 << 20  # bytes left free beside a copy
LEFT = 86_400  # seconds after which nobody comes for a file that was sent


def wanted(app: App, name: str | None) -> Database:
    """The database of that name, else the main one. Raises HostError (usage)."""
    dbs = databases.require(app)
    found = dbs.named(name) if name else dbs.main
    if not found.path.is_file():
        raise HostError(f"the database {found.name} is not there", str(found.path), "deploy backup status", USAGE)
    return found


# ---------------------------------------------------------------------------------------------- console


def console(app: App, name: str | None, write: bool, who: str, origin: str) -> int:
    """A console on the live database, as the app's own user: whatever is typed reaches no further than the app does.

    A person reads what is printed, so an error is lines on standard error. Returns the exit code.
    """
    try:
        database = wanted(app, name)
        if write:
            audit.note(app, who, origin, "db console", f"writing to {database.name}")
        become(databases.require(app).user)
        _converse(database, write)
    except HostError as error:
        print(f"error: {error.what}\n  where: {error.where}\n  to mend it: {error.fix}", file=sys.stderr)
        return error.code
    return DONE


def _converse(database: Database, write: bool) -> None:
    told = "you may write; a statement counts at once, unless you BEGIN" if write else "read only, --write to change it"
    with live(database.path, write) as connection:
        Console(connection, sys.stdin, sys.stdout).run(f"{database.path}: {told}; .help tells more")


def become(user: str) -> None:
    """Be that user from here on. Raises HostError when there is none."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise HostError(f"there is no user {user}", "/etc/passwd", "deploy provision") from None
    os.chdir("/")
    os.umask(0o077)
    if os.geteuid() != found.pw_uid:
        os.initgroups(user, found.pw_gid)
        os.setgid(found.pw_gid)
        os.setuid(found.pw_uid)


# ---------------------------------------------------------------------------------------------- dump


def dump(app: App, name: str | None, sql: bool, out: BinaryIO) -> None:
    """Send a consistent copy: a line of JSON with its `bytes` and `sha256`, and then that many bytes.

    As a SQLite file, or as SQL text. Raises HostError, also when another one is being made (locked).
    """
    database = wanted(app, name)
    with _alone(app, "dump") as scratch:
        _send(_copied(database, scratch, sql), out)


@contextlib.contextmanager
def _alone(app: App, what: str) -> Iterator[Path]:
    """An empty directory of root's own, gone afterwards. Raises HostError (locked) while another has it."""
    scratch = app.state / what
    try:
        with Flock(app.state / f"{what}.lock"):
            remove_tree(scratch)
            make_directory(scratch, 0o700)
            try:
                yield scratch
            finally:
                remove_tree(scratch)
    except BlockingIOError:
        raise HostError(f"another {what} is under way", str(scratch), "try again in a moment", LOCKED) from None


def _copied(database: Database, scratch: Path, sql: bool) -> Path:
    """The file to send."""
    needed, free = drill.size(database.path) * (3 if sql else 1) + SPARE, shutil.disk_usage(scratch).free
    if free < needed:
        what = f"there is no room for a copy: it needs {needed >> 20} MB, and {free >> 20} MB are free"
        raise HostError(what, str(scratch), "free some space on the host (df -h tells)")
    target = scratch / "copy.db"
    sqlite.copy(database.path, target)
    return _as_sql(target) if sql else target


def _as_sql(path: Path) -> Path:
    target = path.with_suffix(".sql")
    with contextlib.closing(sqlite3.connect(path)) as connection, target.open("w") as file:
        file.write("PRAGMA foreign_keys = OFF;\n")
        file.writelines(f"{line}\n" for line in connection.iterdump())
    return target


def _send(path: Path, out: BinaryIO) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        out.write(json.dumps({"bytes": path.stat().st_size, "sha256": digest}).encode() + b"\n")
        file.seek(0)
        shutil.copyfileobj(file, out, CHUNK)
    out.flush()


# ---------------------------------------------------------------------------------------------- load


def _received(target: Path, size: int, digest: str, source: BinaryIO) -> Path:
    """Take in a database that is to replace the live one, and make sure that it is a sound one. Raises HostError."""
    free = shutil.disk_usage(target.parent).free
    if free < 2 * size + SPARE:
        what = f"there is no room for it: {(2 * size + SPARE) >> 20} MB are needed, and {free >> 20} MB are free"
        raise HostError(what, str(target), "free some space on the host (df -h tells)")
    if _written(target, size, source) != digest:
        raise HostError("the file did not arrive whole", str(target), "deploy db load again")
    if wrong := sqlite.integrity(target):
        raise HostError(
            f"this is no sound SQLite database: {'; '.join(wrong[:3])}", str(target), "load another file", USAGE
        )
    return target


def _written(target: Path, size: int, source: BinaryIO) -> str:
    """Write what comes, at most `size` bytes, to the disk; returns the SHA-256 of it."""
    found, left = hashlib.sha256(), size
    with target.open("xb") as file:
        target.chmod(0o600)
        while left and (data := source.read(min(CHUNK, left))):
            file.write(data)
            found.update(data)
            left -= len(data)
        file.flush()
        os.fsync(file.fileno())
    return found.hexdigest()


def load(app: App, size: int, digest: str, who: str, origin: str, edges: Edges) -> Json:
    """Replace the live database by the file that comes on standard input, as a restore does. Raises HostError."""
    from hostctl import restore

    databases.require(app)
    with _alone(app, "load") as scratch:
        received = _received(scratch / "load.db", size, digest, sys.stdin.buffer)
        _forget_loads(app)
        # the transition takes it away, after this has answered
        path = received.replace(app.state / f"load-{transition_id()}.db")
    try:
        return restore.load(app, path, who, origin, edges)
    except BaseException:
        unlink(path)
        raise


def _forget_loads(app: App) -> None:
    """What transitions that came to nothing left here."""
    for path in app.state.glob("load-*.db"):
        if path.stat().st_mtime < time.time() - LEFT:
            unlink(path)
