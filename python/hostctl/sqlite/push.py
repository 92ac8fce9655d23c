"""SQLite's part of a push: check the settings of the release's connections, copy the files before a migration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from hostctl.backup import restore_points, settings
from hostctl.backup.settings import Database, Databases
from hostctl.common.documents import FileCopy
from hostctl.common.errors import HostError
from hostctl.common.files import Json, file_digest
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.journal.engine import Work
from hostctl.sqlite import settings_check
from hostctl.sqlite.database import files, owner, scratch
from hostctl.sqlite.stream import replica

CATCH_UP = 15.0  # seconds that the replica may take to receive the newest writes


def check_release(work: Work) -> str | None:
    """Check the settings of the new release's connections."""
    return settings_check.check(work)


def cancel_check(work: Work) -> None:
    """The undo of `check_release`."""
    settings_check.cancel(work)


def around_migrations(_: Work) -> AbstractContextManager[None]:
    """A context that does nothing: SQLite's migrations need only the restore point."""
    return nullcontext()


def applied_migrations(app: App) -> set[int] | None:
    """The versions of the applied migrations of all databases; None when none of them has Ecto's table.

    Raises HostError when one cannot be read.
    """
    dbs = settings.require(app)
    tables = [owner.migrations(dbs.user, database.path) for database in dbs.existing()]
    known = [versions for versions in tables if versions is not None]
    return {version for versions in known for version in versions} if known else None


# ---------------------------------------------------------------------------------------------- restore point


def no_point_reason(app: App) -> str | None:
    """Why no restore point is needed; None when one is."""
    return None if settings.require(app).main.exists else "none: there is no database yet"


def take_restore_point(work: Work, directory: Path) -> tuple[Json, str]:
    """Copy the databases into the directory; without space for it, record a position of the replica. Returns the point
    and its description. Raises HostError where neither is possible.
    """
    app, dbs, begun = work.app, settings.require(work.app), work.host.clock()
    present = dbs.existing()
    missing = missing_space(app, present)
    copied = {} if missing else _copies(app, dbs.user, present, directory)
    point: Json = _position(work, dbs) if missing else {"files": copied, "position": None}
    point["versions"] = list(owner.read_contents(dbs.user, dbs.main.path).versions)
    return point, _describe(point, missing, work.host.clock() - begun)


def missing_space(app: App, present: Sequence[Database]) -> int:
    """How many bytes the disk lacks for copies of these databases; 0 when there is enough space."""
    need = sum(database.size + database.log_size for database in present)
    return max(0, need + restore_points.RESERVE - disk.space(app.points)["free"])


def _copies(app: App, user: str, present: Sequence[Database], directory: Path) -> dict[str, FileCopy]:
    """Copy the databases; returns size in bytes, digest and rows of each copy, by name."""
    copies: dict[str, FileCopy] = {}
    with scratch.opened(app.state / "copies", user) as work:
        for database in present:
            target = directory / database.name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner.run(user, partial(files.copy, database.path, work / "copy.db"), None)
            tables = owner.read_contents(user, work / "copy.db").tables
            scratch.take(work, "copy.db", target, user)
            facts: FileCopy = {"bytes": target.stat().st_size, "sha256": file_digest(target), "tables": tables}
            copies[database.name] = facts
    return copies


def _position(work: Work, dbs: Databases) -> Json:
    """The position of the replica, once it has every write until now. Raises HostError."""
    if dbs.backup is None:
        what = "no restore point can be taken: the disk has no space for a copy, and no backup is configured"
        raise HostError(what, str(work.app.points), "free some space on the host (df -h), and push again")
    position = replica.of(work.host).caught_up(work.app, work.host, dbs.main.name, CATCH_UP)
    return {"files": {}, "position": position, "at": time.time()}


def _describe(point: Json, missing: int, seconds: float) -> str:
    if missing:
        return f"the position in the replica only, {seconds:.1f} s: a copy needs {missing >> 20} MiB more on the disk"
    size = sum(copy["bytes"] for copy in point["files"].values())
    return f"{', '.join(point['files'])}: {size / 1e6:.1f} MB copied in {seconds:.2f} s"
