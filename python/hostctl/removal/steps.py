"""The steps of a removal, and what each works with: see remove."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from hostctl.accessories import services
from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.common.files import Json, read_json, write_json
from hostctl.core import moving
from hostctl.core.paths import App, Layout
from hostctl.edge import caddy, certificates
from hostctl.host.host import Host
from hostctl.instance import health
from hostctl.release import records
from hostctl.removal import data, inventory
from hostctl.removal.units import Machine

HOME = "var/lib/homeport-removed"
AGAIN = "deploy remove"
T = TypeVar("T")


class Removal:
    """One removal on disk, and what a step works with."""

    def __init__(self, app: App, content: Json, host: Host, machine: Machine) -> None:
        self.app, self.content, self.host, self.machine = app, content, host, machine
        self.home = home(app.layout) / f"{app.name}-{content['id']}"

    @property
    def keep_data(self) -> bool:
        return bool(self.content["keep_data"])

    def set(self, **facts: object) -> None:
        """Write facts down, durably."""
        self.content.update(facts)
        write_json(self.home / "remove.json", self.content)

    def begin(self, step: Step) -> None:
        """It is about to act: from now on its undo is owed."""
        self._note("begun", step.name)

    def finish(self, step: Step) -> None:
        """It has done what it is there for."""
        self._note("done", step.name)

    def _note(self, where: str, name: str) -> None:
        if name not in self.content[where]:
            self.set(**{where: [*self.content[where], name]})


class Step(NamedTuple):
    """One step, which may be done any number of times; what is left of a removal does it `again`, done or not. One with
    an undo can be taken back.
    """

    name: str
    do: Callable[[Removal], None]
    undo: Callable[[Removal], None] | None = None
    again: bool = True


def home(layout: Layout) -> Path:
    """Where removals write down what they do, and move what nothing else holds."""
    return layout.root / HOME


def unit(app: App) -> str:
    """The transient unit of the app's removal."""
    return app.helper_unit("remove")


def left(removal: Removal) -> list[Json]:
    """What is still on the host, with its bytes: what was moved, and with keep_data where it has always been."""
    kept = inventory.data_places(removal.app) if removal.keep_data and "files" in removal.content["done"] else []
    told = [{"path": str(path), "bytes": data.size(path)} for path in kept]
    return [*removal.content.get("moved", []), *removal.content.get("mounts", []), *told]


# ---------------------------------------------------------------------------------------------- what can be undone


def _ask(removal: Removal) -> None:
    if not removal.content["force"]:
        data.ask(removal.app, removal.host)


def _nothing(_: Removal) -> None:
    """Asking, and one more backup, change nothing."""


def _leave_edge(removal: Removal) -> None:
    """The app's route and all else that the edge has of it, aside; then the edge without it."""
    for path in inventory.edge_files(removal.app):
        moving.move(path, removal.home / "edge" / path.relative_to(_edge(removal.app)))
    removal.machine.apply_edge()


def _enter_edge(removal: Removal) -> None:
    aside = removal.home / "edge"
    for path in sorted(aside.glob("*/*")):
        moving.move(path, _edge(removal.app) / path.relative_to(aside))
    removal.machine.apply_edge()
    files.remove_tree(aside)


def _edge(app: App) -> Path:
    return app.layout.root / inventory.EDGE


def _stop(removal: Removal) -> None:
    """Everything of the app but what the final backup is made with; what a start brings back is noted before."""
    running = [one for one in _running(removal) if one not in data.units(removal.app)]
    running = [one for one in running if not one.endswith(inventory.SLICE)]  # what it holds has an order
    known = {path.name for path in inventory.unit_files(removal.app)}
    if "ran" not in removal.content:
        removal.set(
            ran=[one for one in running if one in known and one.removesuffix(".service") + ".timer" not in known]
        )
    removal.machine.stop([one for one in running if not one.endswith(".service")])
    removal.machine.stop([one for one in running if one.endswith(".service")])


def _running(removal: Removal) -> list[str]:
    apps_here = {*inventory.known(removal.app.layout), removal.app.name}
    mine = [one for one in removal.machine.units() if inventory.owner_of_unit(one, apps_here) == removal.app.name]
    return [one for one in mine if one != unit(removal.app)]


def _start(removal: Removal) -> None:
    """The undo of `_stop`: what ran is started, and the live instance serves before the edge leads to it again."""
    for one in removal.content.get("ran", []):
        removal.host.systemd.start(one)
    if live := removal.content["live"]:
        removal.host.systemd.start(removal.app.unit(live))
        settings, port = records.load(removal.app, live)["settings"], records.port(removal.app, live) or 0
        domain = (removal.content["names"] or settings["domains"])[0]
        health.wait_until_healthy(removal.host, removal.app.unit(live), port, domain, settings["health"])


def _snapshot(removal: Removal) -> None:
    _or_forced(removal, data.snapshot)


def _send_all(removal: Removal) -> None:
    """The rest of the final backup. Without one nothing goes, unless a person said so: then the data is moved."""
    app = removal.app
    if not removal.content["warnings"] and _or_forced(removal, data.send_all):
        removal.set(backup={**(data.bucket(app) or {}), "at": time.time()})
    elif removal.content["warnings"]:
        data.stop(app, removal.host)


def _or_forced(removal: Removal, send: Callable[[App, Host], T]) -> T | None:
    try:
        return send(removal.app, removal.host)
    except HostError as error:
        what = f"there is no final backup: {error.what}"
        if not removal.content["force"]:
            fix = f"{error.fix or 'mend it'}; or {AGAIN} --force, which moves the data aside"
            raise HostError(what, error.where, fix) from None
        removal.set(warnings=[what])
    return None


def _go_on(removal: Removal) -> None:
    data.resume(removal.app, removal.host)


# ---------------------------------------------------------------------------------------------- what is for good


def _drop_units(removal: Removal) -> None:
    """All of them: what began meanwhile, after a boot, is stopped with those that made the final backup."""
    removal.machine.stop(_running(removal))
    # before their units and settings, by which they are known; what they hold is in no backup, so it goes aside
    services.take_all_away(removal.app, removal.host, removal.keep_data)
    for path in inventory.unit_files(removal.app):
        files.remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    removal.machine.reload()


def _drop_data(removal: Removal) -> None:
    if removal.keep_data:
        data.keep(removal.app)
        return
    removal.set(moved=data.let_go(removal.app, removal.content["backup"] is not None, removal.home))


def _drop_files(removal: Removal) -> None:
    app, mounts = removal.app, []
    _drop_certificates(removal)
    if not removal.keep_data:
        _copy(app.audit, removal.home / app.audit.name)
    for place in inventory.places(app, removal.keep_data):
        if not _removed(place):
            mounts.append({"path": str(place), "bytes": 0})
    files.remove_tree(removal.home / "edge")
    removal.set(mounts=mounts)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        files.write_atomic(target, source.read_bytes())


def _removed(place: Path) -> bool:
    """Remove a file or a directory. One with a file system mounted in it stays, empty: False then."""
    if place.is_symlink() or not place.is_dir():
        files.unlink(place)
        return True
    try:
        files.remove_tree(place)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        shutil.rmtree(place, ignore_errors=True)
        return False
    return True


def _drop_certificates(removal: Removal) -> None:
    """Those that Caddy had for the app's names alone, with their keys."""
    others = [read_json(path) or {"routes": []} for path in (_edge(removal.app) / "apps").glob("*.json")]
    used = {name for other in others for name in caddy.hosts(other)}
    for name in set(removal.content["names"]) - used:
        for directory in (removal.app.layout.root / certificates.STORAGE.relative_to("/")).glob(f"*/{name}"):
            files.remove_tree(directory)


def _drop_users(removal: Removal) -> None:
    """With keep_data the app's own user stays: the data is that user's."""
    own, builder = removal.content["users"]
    for name in [builder] if removal.keep_data else [own, builder]:
        removal.machine.forget_user(name)


STEPS = [
    Step("check", _ask, _nothing, again=False),
    Step("snapshot", _snapshot, _nothing, again=False),
    Step("edge", _leave_edge, _enter_edge),
    Step("stop", _stop, _start),
    Step("backup", _send_all, _go_on, again=False),
    Step("units", _drop_units),
    Step("data", _drop_data),
    Step("files", _drop_files),
    Step("users", _drop_users),
]
