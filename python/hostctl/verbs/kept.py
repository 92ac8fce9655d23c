"""Kept data: the data that transitions replaced, which only `deploy backup forget` deletes."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostctl import engines
from hostctl.common import files
from hostctl.common.documents import KeptEntry, KeptSpace
from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.names import matches
from hostctl.common.timestamps import utc
from hostctl.core import audit
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.journal import journal

GONE = ".forgotten-"  # prefix of what is being deleted, so that an incomplete copy is never listed


class KeptData(NamedTuple):
    """A directory of kept data, or a database that the server keeps under another name.

    `id`: the transition that kept it, or a time. `since`: seconds since the epoch. `bytes`: on the disk.
    """

    id: str
    since: float
    bytes: int
    path: str
    directory: bool


def every(app: App) -> list[KeptEntry]:
    """All kept data, oldest first: `id`, `since` in seconds since the epoch, `bytes` on the disk, `path`, and `why` (""
    when it is not known). Databases of a server that does not answer are missing.
    """
    return [_document(app, kept) for kept in sorted([*_directories(app), *_known_databases(app)])]


def space(app: App) -> KeptSpace:
    """The `count` of `every`, and their `bytes` on the disk."""
    sizes = [kept.bytes for kept in (*_directories(app), *_known_databases(app))]
    return {"count": len(sizes), "bytes": sum(sizes)}


def find(app: App, name: str) -> KeptEntry:
    """The kept data with that id. Raises HostError (usage) when there is none, (locked) while its transition runs."""
    return _document(app, _find(app, name))


def _find(app: App, name: str) -> KeptData:
    kept = next((kept for places in (_directories, _databases) for kept in places(app) if kept.id == name), None)
    if kept is None:
        what = f"no kept data with id {name[:80]}"
        raise HostError(what, str(app.aside), "deploy backup list shows the ids", USAGE)
    if any(entry.id == name for entry in journal.unfinished(app)):
        fix = "wait until it has ended (deploy attach shows it), and try again"
        raise HostError(f"{name} is under way: it may need its kept data", kept.path, fix, LOCKED)
    return kept


def forget(app: App, name: str, who: str, origin: str) -> KeptEntry:
    """Delete kept data for good. Returns what `find` showed. Raises HostError as `find`."""
    kept = _find(app, name)
    document = _document(app, kept)
    if kept.directory:
        _remove(app, name)
    else:
        engines.require(app).restores.delete_kept_data(app, kept.path)
    note = f"{name}: {kept.bytes} bytes, {document['why'] or 'for an unknown reason'}"
    audit.note(app, who, origin, "backup forget", note)
    return document


def _remove(app: App, name: str) -> None:
    for root in _roots(app):
        if (root / name).is_dir():
            (root / name).rename(root / f"{GONE}{name}")
            files.sync_directory(root)
        # also what an interrupted call left
        for path in root.glob(f"{GONE}*"):
            files.remove_tree(path)


def _roots(app: App) -> tuple[Path, Path]:
    """The places of kept files and clusters: a rename stays within a file system."""
    return app.aside, app.cluster / "aside"


def _directories(app: App) -> Iterator[KeptData]:
    for root in _roots(app):
        with suppress(FileNotFoundError):
            for path in root.iterdir():
                if matches("transition", path.name) and not path.is_symlink():
                    yield KeptData(path.name, path.stat().st_mtime, disk.used_space(path), str(path), directory=True)


def _databases(app: App) -> list[KeptData]:
    """The databases that the server keeps. Raises HostError when it does not answer."""
    engine = engines.of(app)
    kept = engine.restores.kept_data(app) if engine else {}
    return [_database(name, size) for name, size in kept.items()]


def _database(name: str, size: int) -> KeptData:
    identifier = name.rpartition("_")[2]
    since = calendar.timegm(time.strptime(identifier[:15], "%Y%m%dT%H%M%S"))
    return KeptData(identifier, float(since), size, name, directory=False)


def _known_databases(app: App) -> list[KeptData]:
    try:
        return _databases(app)
    except HostError:
        return []


def _document(app: App, kept: KeptData) -> KeptEntry:
    path = kept.path if kept.directory else f"the database {kept.path}"
    return {"id": kept.id, "since": kept.since, "bytes": kept.bytes, "path": path, "why": _why(app, kept.id)}


def _why(app: App, name: str) -> str:
    """Why the data was kept, from the journal of its transition; "" without one."""
    entry = journal.load(app, name)
    if entry is None:
        return ""
    who, ended = entry.content["who"] or "somebody", entry.result
    if ended is not None and ended["result"] != "live":
        return f"what was written before the {entry.content['verb']} of {who} was undone"
    since = (entry.content.get("kept") or {}).get("since")
    of = f" to {utc(since)}" if since else ""
    return f"what was live before the {entry.content['verb']} of {who}{of}"
