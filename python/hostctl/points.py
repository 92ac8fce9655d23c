"""Restore points: the databases as they were before the migrations of a push, so that its data can be taken back too.

A point has the id of the transition that took it. One without point.json was cut short and does not count.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from hostctl import artifact, databases, files, migrations, sqlite
from hostctl.databases import Database, Databases
from hostctl.errors import FAILED, USAGE, HostError
from hostctl.files import Json
from hostctl.layout import App
from hostctl.names import checked, matches
from hostctl.swap import beside
from hostctl.transition import Work

RESERVE = 256 << 20  # bytes that stay free beside a point's copies: the live database grows on the same disk
CATCH_UP = 15.0  # seconds that the replica may take to hold what the database holds


def take(work: Work) -> str:
    """The step: copy the databases before they are migrated, or where there is no room note the instant to which the
    replica can be restored. Raises HostError where neither can be had.
    """
    app, dbs = work.app, databases.require(work.app)
    if (why := _needless(work, dbs)) is not None:
        return why
    begun = work.edges.clock()
    point: Json = {"id": work.journal.id, "at": time.time(), "release": work.journal.previous, "for": work.release}
    directory = app.points / work.journal.id
    files.make_directory(app.points, 0o700)
    files.make_directory(directory, 0o700)
    present = [one for one in dbs.databases if one.path.exists()]
    missing = room_wanted(app, present)
    point |= _position(work, dbs) if missing else {"files": _copies(present, directory), "position": None}
    point["versions"] = list(sqlite.look(dbs.main.path).versions)
    files.write_json(directory / "point.json", point)
    files.sync_directory(app.points)
    return _told(point, missing, work.edges.clock() - begun)


def _needless(work: Work, dbs: Databases) -> str | None:
    """Why this push needs no point; None when it does."""
    if work.journal.previous is None:
        return "none: nothing is live to go back to"
    if not dbs.main.path.exists():
        return "none: there is no database yet"
    brought = brings(work.app, work.release, work.journal.previous)
    return "none: no migration that the live release lacks" if brought == set() else None


def brings(app: App, release: str, live: str) -> set[str] | None:
    """The migrations that a release has and the live one lacks; None when its files do not tell."""
    own = _migrations(app, release)
    return own - (_migrations(app, live) or set()) if own else None


def _migrations(app: App, release: str) -> set[str] | None:
    try:
        return migrations.of(artifact.from_json((app.record(release) / "manifest.json").read_text()))
    except (OSError, ValueError):
        return None


def room_wanted(app: App, present: Sequence[Database]) -> int:
    """How many bytes are missing for copies of these databases; 0 when there is room."""
    need = sum(each.stat().st_size for one in present for each in (one.path, beside(one.path)[0]) if each.exists())
    found = os.statvfs(app.points)
    return max(0, need + RESERVE - found.f_bavail * found.f_frsize)


def _copies(present: Sequence[Database], directory: Path) -> Json:
    """The copies, by the database's name, each with its size in bytes and its digest."""
    told: Json = {}
    for one in present:
        target = directory / one.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sqlite.copy(one.path, target)
        told[one.name] = {"bytes": target.stat().st_size, "sha256": digest(target)}
    return told


def _position(work: Work, dbs: Databases) -> Json:
    """Where the replica stands, once it has everything that was written until now."""
    if dbs.backup is None:
        what = "no restore point can be taken: the disk has no room for a copy, and there is no backup"
        raise HostError(what, str(work.app.points), "free some space on the host (df -h), and push again")
    position = work.edges.replica.caught_up(work.app, work.edges, dbs.main.name, CATCH_UP)
    return {"files": {}, "position": position, "at": time.time()}


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _told(point: Json, missing: int, seconds: float) -> str:
    if missing:
        return f"the position in the replica only, {seconds:.1f} s: a copy needs {missing >> 20} MiB more on the disk"
    size = sum(one["bytes"] for one in point["files"].values())
    return f"{', '.join(point['files'])}: {size / 1e6:.1f} MB copied in {seconds:.2f} s"


# ---------------------------------------------------------------------------------------------- what there is


def every(app: App) -> list[Json]:
    """All points, oldest first."""
    names = sorted(path.name for path in app.points.glob("*") if matches("transition", path.name))
    found = (files.read_json(app.points / name / "point.json") for name in names)
    return [point for point in found if point is not None]


def load(app: App, point: str) -> Json:
    """The point of that id. Raises HostError (usage) when there is none."""
    found = files.read_json(app.points / checked("transition", point) / "point.json")
    if found is None:
        raise HostError(f"there is no restore point {point}", str(app.points), "deploy backup list", USAGE)
    return found


def before(app: App, live: str | None) -> Json:
    """The point taken before the migrations of the release that is live. Raises HostError when there is none."""
    if live is None:
        raise HostError("nothing is live, so there is nothing to go back from", str(app.points), "deploy push", FAILED)
    found = [point for point in every(app) if point["for"] == live]
    if not found:
        what = f"no restore point was taken before {live}: its push brought no migration, or it was the first"
        fix = "deploy rollback takes the code back; deploy restore --at TIME the data"
        raise HostError(what, str(app.points), fix, FAILED)
    return found[-1]


def prune(app: App, kept: Collection[str]) -> list[str]:
    """Remove the points of releases that are gone, and what was cut short. Only under the lock."""
    gone = []
    for path in sorted(app.points.glob("*")):
        point = files.read_json(path / "point.json")
        if point is None or point["for"] not in kept:
            files.unlink(path / "point.json")
            files.remove_tree(path)
            gone.append(path.name)
    return gone
