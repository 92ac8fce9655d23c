"""What belongs to an app on the host. All of it is found by its name, which may be the beginning of another app's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hostctl.common.names import matches
from hostctl.core.paths import App, Layout

PREFIX = "homeport-"
SLICE = ".slice"
STAMP = "stamp-"  # systemd's note of when a persistent timer has last elapsed: systemd.timer(5)
UNITS = "etc/systemd/system"
TIMERS = "var/lib/systemd/timers"
EDGE = "etc/homeport/edge"
# of /etc/homeport/APP and of the app's state: what a database is taken up again by
KEPT_SETTINGS = ("backup", "database", "pg", "postgresql")
KEPT_STATE = ("accessories", "aside", "audit.jsonl", "backup")


def owner(name: str, apps: Iterable[str]) -> str | None:
    """The app that a thing is named after: `shop-admin-drill` is of shop-admin, if there is one, else of shop."""
    fits = (app for app in apps if re.match(rf"{re.escape(app)}(?![a-z0-9])", name))
    return max(fits, key=len, default=None)


def owner_of_unit(unit: str, apps: Iterable[str]) -> str | None:
    """The app of `APP@RELEASE.service`, of `homeport-APP-WHAT.service`, and of the slice that systemd makes for the
    instances of a template; no other unit is an app's.
    """
    if unit.startswith("system-") and unit.endswith(SLICE):
        unit = unit.removeprefix("system-").removesuffix(SLICE).replace("\\x2d", "-") + "@"
    if unit.startswith(PREFIX):  # homeport-shop-cron@x.timer is no unit of an app called shop-cron
        name = unit.removeprefix(PREFIX)
        return owner(name, [app for app in apps if name.startswith(f"{app}-")])
    name, at, _ = unit.partition("@")
    return name if at and name in apps else None


def known(layout: Layout) -> set[str]:
    """The names of all apps that the host has anything of."""
    homes = (layout.root / "etc/homeport", layout.state)
    names = {path.name for home in homes if home.is_dir() for path in home.iterdir() if path.is_dir()}
    return {name for name in names if matches("app", name)} - {Path(EDGE).name}


def unit_files(app: App) -> list[Path]:
    """The app's unit files, what is dropped in beside them, and the links that have them started."""
    home, apps = app.layout.root / UNITS, {*known(app.layout), app.name}
    found = [*home.glob("*"), *home.glob("*.wants/*"), *home.glob("*.requires/*")]
    return sorted(path for path in found if owner_of_unit(path.name.removeprefix("."), apps) == app.name)


def edge_files(app: App) -> list[Path]:
    """Its snippet, and whatever else the edge has of it, by kind: /etc/homeport/edge/KIND/APP*."""
    apps = {*known(app.layout), app.name}
    return sorted(path for path in (app.layout.root / EDGE).glob("*/*") if owner(path.name, apps) == app.name)


def places(app: App, keep_data: bool) -> list[Path]:
    """Every other file and directory of the app that is there, in the order in which they go: what names it first, its
    state, with the lock, last. With `keep_data` without the database and what it is taken up again by.
    """
    named = [app.config, app.srv, app.build.parent, *_runtime(app), *_stamps(app)]
    rest = list(_kept_apart(app)) if keep_data else [app.data, app.cluster, app.config.parent, app.state]
    return [path for path in [*named, *rest] if path.exists() or path.is_symlink()]


def _runtime(app: App) -> list[Path]:
    apps, run = {*known(app.layout), app.name}, app.layout.root / "run"
    return [path for path in run.glob(f"{PREFIX}*") if owner(path.name.removeprefix(PREFIX), apps) == app.name]


def _stamps(app: App) -> list[Path]:
    apps, home = {*known(app.layout), app.name}, app.layout.root / TIMERS
    return [path for path in home.glob(f"{STAMP}*") if owner_of_unit(path.name.removeprefix(STAMP), apps) == app.name]


def _kept_apart(app: App) -> Iterator[Path]:
    """What goes of the directories that stay."""
    for home, kept in ((app.config.parent, KEPT_SETTINGS), (app.state, KEPT_STATE)):
        yield from (path for path in sorted(home.glob("*")) if not path.name.startswith(kept))


def data_places(app: App) -> list[Path]:
    """Where `keep_data` leaves something, as far as it is there."""
    return [path for path in (app.data, app.cluster, app.config.parent, app.state) if path.exists()]
