"""Replaces the app's database files by others, keeps the replaced ones, and can undo that.

The order makes every crash recoverable. The sidecars of a database (its log, Litestream's directory) are moved away
before the main file, and moved back after it. So while the old main file is in the directory of kept data, the files in
its place belong to the new database, and otherwise to the old one. No process may have the files open: see `openers`.

The app's user owns the directory of the database, and can change every name in it: so all of this is done through
handles that follow no link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from hostctl.backup.settings import Database, Databases
from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.core import moving
from hostctl.host.boundary import handles, trees
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.sqlite.database import owner

UNDER_WAY = "swap.json"
UNDONE = "undone.json"
PROC = Path("/proc")


def sidecar_names(name: str) -> list[str]:
    """The files and the directory that SQLite and Litestream keep beside a database; each may be missing."""
    return [str(path) for path in sidecar_paths(Path(name))]


def sidecar_paths(path: Path) -> list[Path]:
    """As `sidecar_names`, of a path."""
    names = [f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal", f".{path.name}-litestream"]
    return [path.with_name(name) for name in names]


def swap(dbs: Databases, names: Sequence[str], fetched: Path, aside: Path) -> None:
    """Replace the databases of these names by those in the scratch directory `fetched`, and move the replaced ones to
    `aside`/old. Group and mode stay as they were. Raises HostError before anything is changed.
    """
    databases = [dbs.named(name) for name in names]
    for database in databases:
        _require_regular(database)
    swapped = {each.name: {"path": str(each.path), "existed": each.exists} for each in databases}
    files.make_directory(aside, 0o700)
    files.write_json(aside / UNDER_WAY, swapped)
    account = owner.find(dbs.user)
    with handles.owned(fetched) as new, Directory(aside) as kept:
        for database in databases:
            _give(new, database, account)
            with handles.owned(database.directory) as live:
                _replace(live, database.name, new, kept, account)


def _require_regular(database: Database) -> None:
    found = database.stat()
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise HostError("this is no regular file", str(database.path), "put the database itself there")


def _give(fetched: Directory, database: Database, account: User) -> None:
    """Give a fetched file the group and mode of the file in the place; without one, the user's and mode 0600."""
    found = database.stat()
    group, mode = (found.st_gid, stat.S_IMODE(found.st_mode) & 0o777) if found else (account.gid, 0o600)
    handle = fetched.regular(database.name, account)
    try:
        handles.give(handle, account._replace(gid=group), mode)
    finally:
        os.close(handle)


def _replace(live: Directory, name: str, fetched: Directory, kept: Directory, account: User) -> None:
    for sidecar in sidecar_names(name):
        trees.move(live, sidecar, kept, f"old/{sidecar}")
    trees.move(live, name, kept, f"old/{name}")
    trees.move(fetched, name, live, name, account)


def swap_back(aside: Path) -> None:
    """Undo `swap`, also an interrupted one; a repetition changes nothing. The new files are moved to `aside`/new."""
    swapped = files.read_json(aside / UNDER_WAY) or {}
    for name, told in swapped.items():
        database = Database(name, Path(told["path"]))
        with Directory(aside) as kept, handles.owned(database.directory) as live:
            _put_back(live, name, kept, bool(told["existed"]))
    moving.move(aside / UNDER_WAY, aside / UNDONE)


def _put_back(live: Directory, name: str, kept: Directory, existed: bool) -> None:
    if kept.stat(f"old/{name}") is not None or not existed:
        for each in (name, *sidecar_names(name)):
            trees.move(live, each, kept, f"new/{each}")
        trees.move(kept, f"old/{name}", live, name)
    for sidecar in sidecar_names(name):
        trees.move(kept, f"old/{sidecar}", live, sidecar)


def is_swapped(aside: Path) -> bool:
    """Whether a swap was begun and not undone."""
    return (aside / UNDER_WAY).exists()


# ---------------------------------------------------------------------------------------------- open files


def openers(database: Database) -> list[str]:
    """The other processes (pid and name) that have the database or its log open."""
    found = [status for suffix in ("", "-wal") if (status := database.stat(suffix))]
    identities = {(status.st_dev, status.st_ino) for status in found}
    pids = {pid for pid, identity in _open_files() if identity in identities and pid != os.getpid()}
    return [f"{pid} ({_name(pid)})" for pid in sorted(pids)]


def _open_files() -> Iterator[tuple[int, tuple[int, int]]]:
    """Every open file of every process, by device and inode: paths differ between namespaces."""
    for entry in PROC.glob("[0-9]*"):
        with suppress(OSError):
            for handle in (entry / "fd").iterdir():
                if identity := _identity(handle):
                    yield int(entry.name), identity


def _identity(handle: Path) -> tuple[int, int] | None:
    """Device and inode of what a process has open; None when it has closed it."""
    try:
        status = handle.stat()  # the kernel's own link to the open file, which no user can change
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "gone"
