"""Put other database files in the place of the app's own; what was there goes aside, and can come back.

The order makes every instant readable. What lies beside a database (its log, Litestream's directory) goes before the
main file does, and comes back after it: so while the main file is aside, whatever is in its place belongs to the new
one, and otherwise to the old one. Nobody may have the files open meanwhile: see `openers`.
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
    """What SQLite and Litestream keep beside a database; any of it may be missing."""
    names = [f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal", f".{path.name}-litestream"]
    return [path.with_name(name) for name in names]


def swap(dbs: Databases, fetched: Mapping[str, Path], aside: Path) -> None:
    """Each fetched file takes the place of the database of its name, with the owner and mode of the one that it
    replaces; that one goes to `aside`/old. Raises HostError before anything is touched.
    """
    places = {name: dbs.named(name).path for name in fetched}
    for path in places.values():
        _refuse_strange(path)
    told = {name: {"path": str(path), "existed": path.exists()} for name, path in places.items()}
    files.make_directory(aside, 0o700)
    files.write_json(aside / UNDER_WAY, told)
    for name, source in fetched.items():
        _give(source, places[name], dbs.user)
        _replace(places[name], source, aside / "old" / name)


def _refuse_strange(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise HostError("this is no regular file", str(path), "put the database itself there")


def _give(source: Path, place: Path, user: str) -> None:
    """The owner and mode that the file in the place has."""
    if place.exists():
        found = place.stat()
        owner, group, mode = found.st_uid, found.st_gid, found.st_mode & 0o777
    else:
        known = pwd.getpwnam(user)
        owner, group, mode = known.pw_uid, known.pw_gid, 0o600
    os.chown(source, owner, group)
    source.chmod(mode)


def _replace(place: Path, source: Path, kept: Path) -> None:
    for each, grave in zip(sidecar_paths(place), sidecar_paths(kept), strict=True):
        moving.move(each, grave)
    moving.move(place, kept)
    moving.move(source, place)


def swap_back(aside: Path) -> None:
    """Undo `swap`, whole or cut short at any instant, any number of times. What had taken the place goes to
    `aside`/new.
    """
    for name, told in (files.read_json(aside / UNDER_WAY) or {}).items():
        _put_back(Path(told["path"]), aside / "old" / name, aside / "new" / name, bool(told["existed"]))
    moving.move(aside / UNDER_WAY, aside / UNDONE)


def _put_back(place: Path, kept: Path, undone: Path, existed: bool) -> None:
    if kept.exists() or not existed:
        for each, grave in zip([place, *sidecar_paths(place)], [undone, *sidecar_paths(undone)], strict=True):
            moving.move(each, grave)
        moving.move(kept, place)
    for each, home in zip(sidecar_paths(kept), sidecar_paths(place), strict=True):
        moving.move(each, home)


def is_swapped(aside: Path) -> bool:
    """Whether a swap was begun and not undone."""
    return (aside / UNDER_WAY).exists()


# ---------------------------------------------------------------------------------------------- one move


# ---------------------------------------------------------------------------------------------- who has it open


def openers(path: Path) -> list[str]:
    """The processes (pid and name) that have the database or its log open, this one left out."""
    wanted = {found for each in (path, sidecar_paths(path)[0]) if (found := _identity(each))}
    pids = {pid for pid, seen in _opened() if seen in wanted and pid != os.getpid()}
    return [f"{pid} ({_name(pid)})" for pid in sorted(pids)]


def _opened() -> Iterator[tuple[int, tuple[int, int]]]:
    """Every open file of every process, by device and inode: paths differ between namespaces."""
    for entry in PROC.glob("[0-9]*"):
        with suppress(OSError):
            for handle in (entry / "fd").iterdir():
                if found := _identity(handle):
                    yield int(entry.name), found


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "gone"
