"""What was moved aside, so that nothing of a person's is ever overwritten: what there is of it, and its end by a
person's word. Nothing else deletes it.
"""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostctl import engines
from hostctl.common import files
from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.files import Json
from hostctl.common.names import matches
from hostctl.common.timestamps import utc
from hostctl.core import audit
from hostctl.core.paths import App
from hostctl.journal import journal

GONE = ".forgotten-"  # before the name of what is being deleted: half of it is nothing that anybody may take for whole
BLOCK = 512  # bytes of a block, stat(2)


class Kept(NamedTuple):
    """One thing that was given up: a directory or file aside, or a database that the server keeps under another name.

    `id` is that of the transition that moved it, or of a time; `since` in seconds since the epoch; `bytes` on the disk.
    """

    id: str
    since: float
    bytes: int
    path: str
    directory: bool


def every(app: App) -> list[Json]:
    """All that lies aside, oldest first: `id`, `since` in seconds since the epoch, `bytes` on the disk, `path`, and
    `why` where that is known ("" otherwise). Without what only a server knows that does not answer.
    """
    found = [*_places(app), *_answered(app)]
    return [_told(app, one) for one in sorted(found)]


def space(app: App) -> Json:
    """How much there is: `count`, and `bytes` on the disk; as `every`."""
    found = [*_places(app), *_answered(app)]
    return {"count": len(found), "bytes": sum(one.bytes for one in found)}


def find(app: App, name: str) -> Json:
    """What lies aside under that id. Raises HostError (usage) when nothing does, (locked) while it is worked with."""
    return _told(app, _found(app, name))


def _found(app: App, name: str) -> Kept:
    found = [one for one in _places(app) if one.id == name] or [one for one in _databases(app) if one.id == name]
    if not found:
        what = f"nothing lies aside as {name[:80]}"
        raise HostError(what, str(app.aside), "deploy backup list tells what does", USAGE)
    if any(entry.id == name for entry in journal.unfinished(app)):
        fix = "wait until it has ended (deploy attach shows it), and try again"
        raise HostError(f"{name} is under way: it may need what lies aside", found[0].path, fix, LOCKED)
    return found[0]


def forget(app: App, name: str, who: str, origin: str) -> Json:
    """Delete what lies aside under that id, for good. Returns what it was. Raises HostError as `find`."""
    found = _found(app, name)
    told = _told(app, found)
    if found.directory:
        _remove(app, name)
    else:
        engines.require(app).restores.delete_kept_data(app, found.path)
    note = f"{name}: {found.bytes} bytes, {told['why'] or 'nobody knows why'}"
    audit.note(app, who, origin, "backup forget", note)
    return told


def _remove(app: App, name: str) -> None:
    for root in _roots(app):
        if (root / name).is_dir():
            (root / name).rename(root / f"{GONE}{name}")
            files.sync_directory(root)
        # and what an earlier one was cut short at
        for path in root.glob(f"{GONE}*"):
            files.remove_tree(path)


def _roots(app: App) -> tuple[Path, Path]:
    """Files of the app's own, and clusters: a rename does not reach from one file system to another."""
    return app.aside, app.cluster / "aside"


def _places(app: App) -> Iterator[Kept]:
    for root in _roots(app):
        with suppress(FileNotFoundError):
            for path in root.iterdir():
                if matches("transition", path.name) and not path.is_symlink():
                    yield Kept(path.name, path.stat().st_mtime, _bytes(path), str(path), directory=True)


def _databases(app: App) -> list[Kept]:
    """Those that the server keeps. Raises HostError when it cannot be asked."""
    engine = engines.of(app)
    found = engine.restores.kept_data(app) if engine else {}
    return [_database(name, size) for name, size in found.items()]


def _database(name: str, size: int) -> Kept:
    identifier = name.rpartition("_")[2]
    since = calendar.timegm(time.strptime(identifier[:15], "%Y%m%dT%H%M%S"))
    return Kept(identifier, float(since), size, name, directory=False)


def _answered(app: App) -> list[Kept]:
    try:
        return _databases(app)
    except HostError:
        return []


def _told(app: App, one: Kept) -> Json:
    path = one.path if one.directory else f"the database {one.path}"
    return {"id": one.id, "since": one.since, "bytes": one.bytes, "path": path, "why": _why(app, one.id)}


def _bytes(path: Path) -> int:
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(directory, name).lstat().st_blocks * BLOCK
    return total


def _why(app: App, name: str) -> str:
    """From the journal of the transition that moved it, if there was one."""
    entry = journal.load(app, name)
    if entry is None:
        return ""
    who, ended = entry.content["who"] or "somebody", entry.result
    if ended is not None and ended["result"] != "live":
        return f"what came in before the {entry.content['verb']} of {who} was undone"
    since = (entry.content.get("kept") or {}).get("since")
    of = f" to {utc(since)}" if since else ""
    return f"what was live before the {entry.content['verb']} of {who}{of}"
