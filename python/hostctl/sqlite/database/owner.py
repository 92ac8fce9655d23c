"""Work on an app's SQLite files, as their owner: a child process that is the app's user opens them, and never root.

The app's user can change every path in its directory, and the content of every file: a link, a FIFO, a schema that
breaks SQLite. A process of that user reaches no further than the app itself.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from hostctl.common.errors import FAILED, HostError
from hostctl.host.boundary import users
from hostctl.host.boundary.users import User
from hostctl.sqlite.database import files
from hostctl.sqlite.database.files import Contents

T = TypeVar("T")
MOMENT = 60.0  # seconds for what does not read a whole database


def find(name: str) -> User:
    """The app's user. Raises HostError if there is none, and for root."""
    return users.find(name)


def run(name: str, work: Callable[[], T], seconds: float | None = MOMENT) -> T:
    """Do the work as the app's user, and return its result, which must be a JSON value. Raises HostError, OSError."""
    return users.run_as(find(name), work, seconds)


def become(name: str) -> Callable[[], None] | None:
    """What a new process calls before it runs a program, to be the app's user. Raises HostError.

    Not setpriv(1): it has capabilities until it runs the program, so the kernel takes a program that only root may read
    for one that its user may read, and shows the memory to the user's other processes.
    """
    return partial(users.become, find(name))


# ---------------------------------------------------------------------------------------------- one database


def read_contents(name: str, path: Path) -> Contents:
    """The contents of a database. Raises HostError."""
    tables, schema, versions, canary = run(name, lambda: files.read_contents(path), None)
    first, last, count = canary
    return Contents(tables, schema, tuple(versions), (first, last, count))


def write_canary(name: str, path: Path) -> int:
    """Write the next numbered row; returns its number. Raises HostError."""
    return run(name, lambda: files.write_canary(path))


def migrations(name: str, path: Path) -> tuple[int, ...] | None:
    """The versions of Ecto's migrations that are applied; None without a table of them. Raises HostError."""
    found = run(name, lambda: files.migrations(path))
    return None if found is None else tuple(found)


def integrity_faults(name: str, path: Path) -> list[str]:
    """The findings of PRAGMA integrity_check; none for a sound database."""
    return run(name, lambda: files.integrity_faults(path), None)


def create(name: str, path: Path) -> None:
    """Create a database. Raises HostError when the file exists."""
    run(name, lambda: files.create(path))


def place(name: str, source: Path, target: Path) -> None:
    """Move a finished file to the place of a database. Raises HostError where a file exists."""
    run(name, lambda: files.place(source, target), None)


# ---------------------------------------------------------------------------------------------- held transactions


@contextlib.contextmanager
def hold(name: str, paths: Sequence[Path]) -> Iterator[None]:
    """A read transaction on each database: while it lasts, no checkpoint overwrites its log. Raises HostError."""
    (ready, begun), (end, held) = os.pipe(), os.pipe()
    child = users.start_as(find(name), lambda: _hold(paths, begun, end), (begun, end))
    os.close(begun)
    os.close(end)
    try:
        if not select.select([ready], [], [], MOMENT)[0] or not os.read(ready, 1):
            child.result(MOMENT)
            raise HostError("no read transaction could be begun", str(paths[0]), "try again", FAILED)
        yield
    finally:
        child.end()  # killed: a connection that closes may checkpoint
        os.close(ready)
        os.close(held)


def _hold(paths: Sequence[Path], begun: int, end: int) -> None:
    """Begin the transactions, say so, and hold them until the other end of `end` is closed."""
    with contextlib.ExitStack() as transactions:
        for path in paths:
            transactions.enter_context(files.hold(path))
        os.write(begun, b".")
        os.read(end, 1)
