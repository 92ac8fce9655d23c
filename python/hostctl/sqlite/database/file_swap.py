"""Replaces the app's database files by others, keeps the replaced ones, and can undo that.

The order makes every crash recoverable. The sidecars of a database (its log, Litestream's directory) are moved away
before the main file, and moved back after it. So while the old main file is in the directory of kept data, the files in
its place belong to the new database, and otherwise to the old one. No process may have the files open: see `openers`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from hostctl.backup.settings import Databases
from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.core import moving

UNDER_WAY = "swap.json"
UNDONE = "undone.json"
PROC = Path("/proc")


def sidecar_paths(path: Path) -> list[Path]:
    """The files and the directory that SQLite and Litestream keep beside a database; each may be missing."""
    names = [f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal", f".{path.name}-litestream"]
    return [path.with_name(name) for name in names]


def swap(dbs: Databases, fetched: Mapping[str, Path], aside: Path) -> None:
    """Replace the databases of these names by the fetched files, and move the replaced ones to `aside`/old. Owner and
    mode stay as they were. Raises HostError before anything is changed.
    """
    places = {name: dbs.named(name).path for name in fetched}
    for path in places.values():
        _require_regular(path)
    swapped = {name: {"path": str(path), "existed": path.exists()} for name, path in places.items()}
    files.make_directory(aside, 0o700)
    files.write_json(aside / UNDER_WAY, swapped)
    for name, source in fetched.items():
        _copy_owner(source, places[name], dbs.user)
        _replace(places[name], source, aside / "old" / name)


def _require_regular(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise HostError("this is no regular file", str(path), "put the database itself there")


def _copy_owner(source: Path, place: Path, user: str) -> None:
    """Give a file the owner and mode of the file in the place; without one, the user and mode 0600."""
    if place.exists():
        status = place.stat()
        owner, group, mode = status.st_uid, status.st_gid, status.st_mode & 0o777
    else:
        account = pwd.getpwnam(user)
        owner, group, mode = account.pw_uid, account.pw_gid, 0o600
    os.chown(source, owner, group)
    source.chmod(mode)


def _replace(place: Path, source: Path, kept: Path) -> None:
    for sidecar, target in zip(sidecar_paths(place), sidecar_paths(kept), strict=True):
        moving.move(sidecar, target)
    moving.move(place, kept)
    moving.move(source, place)


def swap_back(aside: Path) -> None:
    """Undo `swap`, also an interrupted one; a repetition changes nothing. The new files are moved to `aside`/new."""
    for name, database in (files.read_json(aside / UNDER_WAY) or {}).items():
        _put_back(Path(database["path"]), aside / "old" / name, aside / "new" / name, bool(database["existed"]))
    moving.move(aside / UNDER_WAY, aside / UNDONE)


def _put_back(place: Path, kept: Path, undone: Path, existed: bool) -> None:
    if kept.exists() or not existed:
        for path, target in zip([place, *sidecar_paths(place)], [undone, *sidecar_paths(undone)], strict=True):
            moving.move(path, target)
        moving.move(kept, place)
    for sidecar, target in zip(sidecar_paths(kept), sidecar_paths(place), strict=True):
        moving.move(sidecar, target)


def is_swapped(aside: Path) -> bool:
    """Whether a swap was begun and not undone."""
    return (aside / UNDER_WAY).exists()


# ---------------------------------------------------------------------------------------------- open files


def openers(path: Path) -> list[str]:
    """The other processes (pid and name) that have the database or its log open."""
    identities = {identity for file in (path, sidecar_paths(path)[0]) if (identity := _identity(file))}
    pids = {pid for pid, identity in _open_files() if identity in identities and pid != os.getpid()}
    return [f"{pid} ({_name(pid)})" for pid in sorted(pids)]


def _open_files() -> Iterator[tuple[int, tuple[int, int]]]:
    """Every open file of every process, by device and inode: paths differ between namespaces."""
    for entry in PROC.glob("[0-9]*"):
        with suppress(OSError):
            for handle in (entry / "fd").iterdir():
                if identity := _identity(handle):
                    yield int(entry.name), identity


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None when it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "gone"
