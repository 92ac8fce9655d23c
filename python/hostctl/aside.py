"""What was moved aside, so that nothing of a person's is ever overwritten: what there is of it, and its end by a
person's word. Nothing else deletes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hostctl import audit, files, journal
from hostctl.errors import LOCKED, USAGE, HostError
from hostctl.files import Json
from hostctl.layout import App
from hostctl.names import matches

GONE = ".forgotten-"  # before the name of what is being deleted: half of it is nothing that anybody may take for whole
BLOCK = 512  # bytes of a block, stat(2)


def every(app: App) -> list[Json]:
    """All that lies aside, oldest first: `id`, `since` in seconds since the epoch, `bytes` on the disk, `path`, and
    `why` where that is known ("" otherwise).
    """
    return [_told(app, path) for path in sorted(_places(app), key=lambda path: path.name)]


def space(app: App) -> Json:
    """How much there is: `count`, and `bytes` on the disk."""
    found = list(_places(app))
    return {"count": len(found), "bytes": sum(_bytes(path) for path in found)}


def find(app: App, name: str) -> Json:
    """What lies aside under that id. Raises HostError (usage) when nothing does, (locked) while it is worked with."""
    found = [path for path in _places(app) if path.name == name]
    if not found:
        what = f"nothing lies aside as {name[:80]}"
        raise HostError(what, str(app.aside), "deploy backup list tells what does", USAGE)
    if any(entry.id == name for entry in journal.unfinished(app)):
        fix = "wait until it has ended (deploy attach shows it), and try again"
        raise HostError(f"{name} is under way: it may need what lies aside", str(found[0]), fix, LOCKED)
    return _told(app, found[0])


def forget(app: App, name: str, who: str, origin: str) -> Json:
    """Delete what lies aside under that id, for good. Returns what it was. Raises HostError as `find`."""
    found = find(app, name)
    for root in _roots(app):
        if (root / name).is_dir():
            (root / name).rename(root / f"{GONE}{name}")
            files.sync_directory(root)
        # and what an earlier one was cut short at
        for path in root.glob(f"{GONE}*"):
            files.remove_tree(path)
    told = f"{name}: {found['bytes']} bytes, {found['why'] or 'nobody knows why'}"
    audit.note(app, who, origin, "backup forget", told)
    return found


def _roots(app: App) -> tuple[Path, Path]:
    """Files of the app's own, and clusters: a rename does not reach from one file system to another."""
    return app.aside, app.cluster / "aside"


def _places(app: App) -> Iterator[Path]:
    for root in _roots(app):
        with suppress(FileNotFoundError):
            yield from (path for path in root.iterdir() if matches("transition", path.name) and not path.is_symlink())


def _told(app: App, path: Path) -> Json:
    return {
        "id": path.name,
        "since": path.stat().st_mtime,
        "bytes": _bytes(path),
        "path": str(path),
        "why": _why(app, path.name),
    }


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
    of = f" to {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(since))}" if since else ""
    return f"what was live before the {entry.content['verb']} of {who}{of}"
