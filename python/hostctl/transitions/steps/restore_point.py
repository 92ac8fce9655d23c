"""How a push takes a restore point before its migrations."""

from __future__ import annotations

import time

from hostctl import engines
from hostctl.backup.restore_points import new_migrations
from hostctl.common import files
from hostctl.common.files import Json
from hostctl.journal.engine import Work


def take(work: Work) -> str:
    """Record a restore point: copies of the data, or its position in the backup. Returns a line to show.

    Raises HostError when neither is possible.
    """
    app, engine = work.app, engines.require(work.app).pushes
    if (reason := _needless(work) or engine.no_point_reason(app)) is not None:
        return reason
    point: Json = {"id": work.journal.id, "at": time.time(), "release": work.journal.previous, "for": work.release}
    directory = app.points / work.journal.id
    files.make_directory(app.points, 0o700)
    files.make_directory(directory, 0o700)
    of_engine, line = engine.take_restore_point(work, directory)
    files.write_json(directory / "point.json", point | of_engine)
    files.sync_directory(app.points)
    return line


def _needless(work: Work) -> str | None:
    """Why this push needs no restore point; None when it does."""
    if work.journal.previous is None:
        return "none: no release is live to roll back to"
    brought = new_migrations(work.app, work.release, work.journal.previous)
    return "none: no migration that the live release lacks" if brought == set() else None
