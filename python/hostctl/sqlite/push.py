"""What a push asks of SQLite: the settings of the release's connections, and copies of the files before a migration."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hostctl.backup import restore_points, settings
from hostctl.backup.settings import Database, Databases
from hostctl.common.errors import HostError
from hostctl.common.files import Json, file_digest
from hostctl.core.paths import App
from hostctl.journal.engine import Work
from hostctl.sqlite import files, replica, settings_check
from hostctl.sqlite.file_swap import sidecar_paths

CATCH_UP = 15.0  # seconds that the replica may take to hold what the database holds


def check_release(work: Work) -> str | None:
    """Ask the new release which settings its connections have."""
    return settings_check.check(work)


def cancel_check(work: Work) -> None:
    """The undo of `check`."""
    settings_check.cancel(work)


def around_migrations(_: Work) -> AbstractContextManager[None]:
    """Nothing: SQLite's migrations need no more than the restore point."""
    return nullcontext()


def applied_migrations(app: App) -> set[int] | None:
    """The versions that the databases name as migrated; None when none of them keeps Ecto's table.

    Raises HostError when one cannot be read.
    """
    found = [files.migrations(one.path) for one in settings.require(app).databases if one.path.exists()]
    tables = [versions for versions in found if versions is not None]
    return {version for versions in tables for version in versions} if tables else None


# ---------------------------------------------------------------------------------------------- restore point


def no_point_reason(app: App) -> str | None:
    """Why no restore point is needed; None when one is."""
    return None if settings.require(app).main.path.exists() else "none: there is no database yet"


def take_restore_point(work: Work, directory: Path) -> tuple[Json, str]:
    """Copy the databases into the directory, or where there is no room note the instant to which the replica can be
    restored. Raises HostError where neither can be had.
    """
    app, dbs, begun = work.app, settings.require(work.app), work.host.clock()
    present = [one for one in dbs.databases if one.path.exists()]
    missing = room_wanted(app, present)
    point: Json = _position(work, dbs) if missing else {"files": _copies(present, directory), "position": None}
    point["versions"] = list(files.read_contents(dbs.main.path).versions)
    return point, _told(point, missing, work.host.clock() - begun)


def room_wanted(app: App, present: Sequence[Database]) -> int:
    """How many bytes are missing for copies of these databases; 0 when there is room."""
    need = sum(
        each.stat().st_size for one in present for each in (one.path, sidecar_paths(one.path)[0]) if each.exists()
    )
    found = os.statvfs(app.points)
    return max(0, need + restore_points.RESERVE - found.f_bavail * found.f_frsize)


def _copies(present: Sequence[Database], directory: Path) -> Json:
    """The copies, by the database's name, each with its size in bytes and its digest."""
    told: Json = {}
    for one in present:
        target = directory / one.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.copy(one.path, target)
        told[one.name] = {"bytes": target.stat().st_size, "sha256": file_digest(target)}
    return told


def _position(work: Work, dbs: Databases) -> Json:
    """Where the replica stands, once it has everything that was written until now."""
    if dbs.backup is None:
        what = "no restore point can be taken: the disk has no room for a copy, and there is no backup"
        raise HostError(what, str(work.app.points), "free some space on the host (df -h), and push again")
    position = replica.of(work.host).caught_up(work.app, work.host, dbs.main.name, CATCH_UP)
    return {"files": {}, "position": position, "at": time.time()}


def _told(point: Json, missing: int, seconds: float) -> str:
    if missing:
        return f"the position in the replica only, {seconds:.1f} s: a copy needs {missing >> 20} MiB more on the disk"
    size = sum(one["bytes"] for one in point["files"].values())
    return f"{', '.join(point['files'])}: {size / 1e6:.1f} MB copied in {seconds:.2f} s"
