"""Restore points: the data as it was before a push's migrations, so that a rollback can restore it.

A point has the id of the transition that took it. One without point.json is incomplete and does not count. The engine
decides what a point holds: copies of SQLite's files, or a named position in PostgreSQL's WAL.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from hostctl.common import files
from hostctl.common.documents import Point
from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.names import checked, matches
from hostctl.common.release import artifact, migrations
from hostctl.core.paths import App

RESERVE = 256 << 20  # bytes that stay free beside a point's copies: the live database grows on the same disk


def new_migrations(app: App, release: str, live: str) -> set[str] | None:
    """The migrations of a release that the live one lacks; None when the release's files do not show them."""
    own = _migrations(app, release)
    return own - (_migrations(app, live) or set()) if own else None


def _migrations(app: App, release: str) -> set[str] | None:
    try:
        return migrations.paths(artifact.from_json((app.record(release) / "manifest.json").read_text()))
    except (OSError, ValueError):
        return None


# ---------------------------------------------------------------------------------------------- reading


def all_points(app: App) -> list[Point]:
    """All points, oldest first."""
    names = sorted(path.name for path in app.points.glob("*") if matches("transition", path.name))
    found = (files.read_json(app.points / name / "point.json") for name in names)
    return [cast(Point, point) for point in found if point is not None]


def load(app: App, point: str) -> Point:
    """The point of that id. Raises HostError (usage) when there is none."""
    found = files.read_json(app.points / checked("transition", point) / "point.json")
    if found is None:
        raise HostError(f"there is no restore point {point}", str(app.points), "deploy backup list", USAGE)
    return cast(Point, found)


def point_before(app: App, live: str | None) -> Point:
    """The point taken before the migrations of the live release. Raises HostError when there is none."""
    if live is None:
        raise HostError("no release is live, so there is nothing to roll back", str(app.points), "deploy push", FAILED)
    found = [point for point in all_points(app) if point["for"] == live]
    if not found:
        what = f"no restore point was taken before {live}: its push brought no migration, or it was the first"
        fix = "deploy rollback rolls the code back; deploy restore --at TIME restores the data"
        raise HostError(what, str(app.points), fix, FAILED)
    return found[-1]


def prune(app: App, kept: Collection[str]) -> list[str]:
    """Remove incomplete points and those of releases that are gone; returns their ids. Only under the app's lock."""
    gone = []
    for path in sorted(app.points.glob("*")):
        point = files.read_json(path / "point.json")
        if point is None or point["for"] not in kept:
            files.unlink(path / "point.json")
            files.remove_tree(path)
            gone.append(path.name)
    return gone
