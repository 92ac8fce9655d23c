"""The step that takes a restore point before migrations run."""

from __future__ import annotations

import time

from hostctl import engines
from hostctl.backup.restore_points import brings
from hostctl.common import files
from hostctl.common.files import Json
from hostctl.journal.steps import Work


def take(work: Work) -> str:
    """The step: keep the data as it is before it is migrated, or where to find it. Raises HostError where neither can
    be had.
    """
    app, engine = work.app, engines.require(work.app).pushes
    if (why := _needless(work) or engine.needless(app)) is not None:
        return why
    point: Json = {"id": work.journal.id, "at": time.time(), "release": work.journal.previous, "for": work.release}
    directory = app.points / work.journal.id
    files.make_directory(app.points, 0o700)
    files.make_directory(directory, 0o700)
    found, told = engine.keep(work, directory)
    files.write_json(directory / "point.json", point | found)
    files.sync_directory(app.points)
    return told


def _needless(work: Work) -> str | None:
    """Why this push needs no point; None when it does."""
    if work.journal.previous is None:
        return "none: nothing is live to go back to"
    brought = brings(work.app, work.release, work.journal.previous)
    return "none: no migration that the live release lacks" if brought == set() else None
