"""The files and units of an app, found by the app's name, which may be a prefix of another app's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hostctl.common.names import matches
from hostctl.core.paths import App, Layout
from hostctl.host.systemd import CONTROL

PREFIX = "homeport-"
SLICE = ".slice"
STAMP = "stamp-"  # files that record when a persistent timer last elapsed: systemd.timer(5)
UNITS = "etc/systemd/system"
TIMERS = "var/lib/systemd/timers"
EDGE = "etc/homeport/edge"
# prefixes of the files of /etc/homeport/APP and of the app's state that the database needs
KEPT_SETTINGS = ("backup", "database", "pg", "postgresql")
KEPT_STATE = ("accessories", "aside", "audit.jsonl", "backup")


def owner(name: str, apps: Iterable[str]) -> str | None:
    """The app to which a name belongs: `shop-admin-drill` is of shop-admin if that app exists, else of shop."""
    fits = (app for app in apps if re.match(rf"{re.escape(app)}(?![a-z0-9])", name))
    return max(fits, key=len, default=None)


def owner_of_unit(unit: str, apps: Iterable[str]) -> str | None:
    """The app of `APP@RELEASE.service`, of `homeport-APP-NAME.service`, or of the slice of a template's instances; None
    for other units.
    """
    if unit.startswith("system-") and unit.endswith(SLICE):
        unit = unit.removeprefix("system-").removesuffix(SLICE).replace("\\x2d", "-") + "@"
    if unit.startswith(PREFIX):  # homeport-shop-cron@x.timer is no unit of an app called shop-cron
        name = unit.removeprefix(PREFIX)
        return owner(name, [app for app in apps if name.startswith(f"{app}-")])
    name, at, _ = unit.partition("@")
    return name if at and name in apps else None


def app_names(layout: Layout) -> set[str]:
    """The names of all apps that have a directory on the host."""
    homes = (layout.root / "etc/homeport", layout.state)
    names = {path.name for home in homes if home.is_dir() for path in home.iterdir() if path.is_dir()}
    return {name for name in names if matches("app", name)} - {Path(EDGE).name}


def unit_files(app: App) -> list[Path]:
    """The app's unit files, their drop-ins, the links that enable them, and what is set for a unit until a reboot."""
    home, apps = app.layout.root / UNITS, {*app_names(app.layout), app.name}
    control = app.layout.root / CONTROL.relative_to("/")
    found = [*home.glob("*"), *home.glob("*.wants/*"), *home.glob("*.requires/*"), *control.glob("*")]
    return sorted(path for path in found if owner_of_unit(path.name.removeprefix("."), apps) == app.name)


def edge_files(app: App) -> list[Path]:
    """The app's files of the edge: /etc/homeport/edge/KIND/APP*."""
    apps = {*app_names(app.layout), app.name}
    return sorted(path for path in (app.layout.root / EDGE).glob("*/*") if owner(path.name, apps) == app.name)


def places(app: App, keep_data: bool) -> list[Path]:
    """The app's other files and directories in the order of their removal: app.json first, the state last.

    With `keep_data` without the database and the files that it needs.
    """
    named = [app.config, app.srv, app.build.parent, *_runtime(app), *_stamps(app)]
    rest = list(_besides_kept(app)) if keep_data else [app.data, app.cluster, app.config.parent, app.state]
    return [path for path in [*named, *rest] if path.exists() or path.is_symlink()]


def _runtime(app: App) -> list[Path]:
    apps, run = {*app_names(app.layout), app.name}, app.layout.root / "run"
    return [path for path in run.glob(f"{PREFIX}*") if owner(path.name.removeprefix(PREFIX), apps) == app.name]


def _stamps(app: App) -> list[Path]:
    apps, home = {*app_names(app.layout), app.name}, app.layout.root / TIMERS
    return [path for path in home.glob(f"{STAMP}*") if owner_of_unit(path.name.removeprefix(STAMP), apps) == app.name]


def _besides_kept(app: App) -> Iterator[Path]:
    """The files to remove from the directories that stay."""
    for home, kept in ((app.config.parent, KEPT_SETTINGS), (app.state, KEPT_STATE)):
        yield from (path for path in sorted(home.glob("*")) if not path.name.startswith(kept))


def data_places(app: App) -> list[Path]:
    """The existing directories in which `keep_data` leaves files."""
    return [path for path in (app.data, app.cluster, app.config.parent, app.state) if path.exists()]
