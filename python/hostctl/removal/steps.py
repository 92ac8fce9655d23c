"""The steps of a removal: see remove."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, TypeVar, cast

from hostctl.accessories import services
from hostctl.common import files
from hostctl.common.documents import ErrorDocument
from hostctl.common.errors import HostError
from hostctl.common.files import read_json, write_json
from hostctl.core import moving
from hostctl.core.paths import App, Layout
from hostctl.edge import caddy, certificates
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.instance import health
from hostctl.instance import start as instance_start
from hostctl.release import records
from hostctl.removal import data, inventory
from hostctl.removal.data import Bucket
from hostctl.removal.units import Machine

HOME = "var/lib/homeport-removed"
AGAIN = "deploy remove"
T = TypeVar("T")


class Place(TypedDict):
    """A file or directory, and the bytes of its files."""

    path: str
    bytes: int


class FinalBackup(Bucket):
    """The bucket of the final backup, and when it was complete."""

    at: float


class Facts(TypedDict):
    """What was removed: bytes on the disk, the number of releases, the final backup, and warnings."""

    bytes: int | None
    releases: int
    backup: FinalBackup | None
    warnings: list[str]


class RemovalResult(Facts):
    """How a removal ended. `again`: the same command continues it; `left`: what remains on the host."""

    at: float
    ended: float
    ok: bool
    reverted: bool
    again: bool
    found: list[str]
    error: ErrorDocument | None
    keep_data: bool
    left: list[Place]
    # the directory of the removal
    note: str


# the key `from` is no name in Python
Request = TypedDict("Request", {"id": str, "app": str, "who": str, "from": str, "at": float})


class RemovalJournal(Request, Facts):
    """The content of remove.json."""

    keep_data: bool
    force: bool
    # the steps that were begun and done
    begun: list[str]
    done: list[str]
    # the error for which the removal is reverted
    reverting: ErrorDocument | None
    result: RemovalResult | None
    # the app's users, the names of its certificates, and its live release
    users: list[str]
    names: list[str]
    live: str | None
    # the units that ran
    ran: NotRequired[list[str]]
    # data that was moved away, and mount points that remain
    moved: NotRequired[list[Place]]
    mounts: NotRequired[list[Place]]


class Removal:
    """A removal: its journal on disk, and what its steps need."""

    def __init__(self, app: App, content: RemovalJournal, host: Host, machine: Machine) -> None:
        self.app, self.content, self.host, self.machine = app, content, host, machine
        self.home = home(app.layout) / f"{app.name}-{content['id']}"

    @property
    def keep_data(self) -> bool:
        """Whether the data stays in its place."""
        return self.content["keep_data"]

    def set(self, **facts: object) -> None:
        """Write facts to the journal, durably."""
        self.content = cast("RemovalJournal", {**self.content, **facts})
        write_json(self.home / "remove.json", self.content)

    def begin(self, step: Step) -> None:
        """Record that a step is about to act: a failure undoes it from now on."""
        if step.name not in self.content["begun"]:
            self.set(begun=[*self.content["begun"], step.name])

    def finish(self, step: Step) -> None:
        """Record that a step is done."""
        if step.name not in self.content["done"]:
            self.set(done=[*self.content["done"], step.name])


class Step(NamedTuple):
    """A step, which can be repeated. A continued removal repeats it even when it is done, if `again`."""

    name: str
    do: Callable[[Removal], None]
    undo: Callable[[Removal], None] | None = None
    again: bool = True


def home(layout: Layout) -> Path:
    """The directory of the journals of removals, and of the data that is in no backup."""
    return layout.root / HOME


def unit(app: App) -> str:
    """The transient unit of the app's removal."""
    return app.helper_unit("remove")


def remaining(removal: Removal) -> list[Place]:
    """What remains on the host, with its bytes: what was moved and, with keep_data, the data in its place."""
    kept = inventory.data_places(removal.app) if removal.keep_data and "files" in removal.content["done"] else []
    sizes: list[Place] = [{"path": str(path), "bytes": disk.size(path)} for path in kept]
    return [*removal.content.get("moved", []), *removal.content.get("mounts", []), *sizes]


# ---------------------------------------------------------------------------------------------- steps with an undo


def _check_bucket(removal: Removal) -> None:
    if not removal.content["force"]:
        data.check_bucket(removal.app, removal.host)


def _nothing(_: Removal) -> None:
    """The undo of steps that change nothing: a check, and one more backup."""


def _remove_from_edge(removal: Removal) -> None:
    """Move the app's route and its other files of the edge away, and apply the edge without them."""
    for path in inventory.edge_files(removal.app):
        moving.move(path, removal.home / "edge" / path.relative_to(_edge(removal.app)))
    removal.machine.apply_edge()


def _restore_edge(removal: Removal) -> None:
    aside = removal.home / "edge"
    for path in sorted(aside.glob("*/*")):
        moving.move(path, _edge(removal.app) / path.relative_to(aside))
    removal.machine.apply_edge()
    files.remove_tree(aside)


def _edge(app: App) -> Path:
    return app.layout.root / inventory.EDGE


def _stop(removal: Removal) -> None:
    """Stop every unit of the app that the final backup does not need. The units for `_start` are recorded before."""
    running = [name for name in _running(removal) if name not in data.units(removal.app)]
    running = [name for name in running if not name.endswith(inventory.SLICE)]  # its units are stopped in order
    known = {path.name for path in inventory.unit_files(removal.app)}
    if "ran" not in removal.content:
        removal.set(
            ran=[name for name in running if name in known and name.removesuffix(".service") + ".timer" not in known]
        )
    removal.machine.stop([name for name in running if not name.endswith(".service")])
    removal.machine.stop([name for name in running if name.endswith(".service")])


def _running(removal: Removal) -> list[str]:
    apps_here = {*inventory.app_names(removal.app.layout), removal.app.name}
    own = [name for name in removal.machine.units() if inventory.owner_of_unit(name, apps_here) == removal.app.name]
    return [name for name in own if name != unit(removal.app)]


def _start(removal: Removal) -> None:
    """The undo of `_stop`: start what ran, and wait until the live instance is healthy for the edge."""
    for name in removal.content.get("ran", []):
        removal.host.systemd.start(name)
    if live := removal.content["live"]:
        instance_start.start(removal.app, live, removal.host)
        settings, port = records.load(removal.app, live)["settings"], records.port(removal.app, live) or 0
        domain = (removal.content["names"] or settings["domains"])[0]
        health.wait_until_healthy(removal.host, removal.app.unit(live), port, domain, settings["health"])


def _snapshot(removal: Removal) -> None:
    _unless_forced(removal, data.snapshot)


def _send_all(removal: Removal) -> None:
    """Complete the final backup. Without one nothing is removed, except with --force: then the data is moved."""
    app = removal.app
    if not removal.content["warnings"] and _unless_forced(removal, data.send_all):
        removal.set(backup={**(data.bucket(app) or {}), "at": time.time()})
    elif removal.content["warnings"]:
        data.stop(app, removal.host)


def _unless_forced(removal: Removal, send: Callable[[App, Host], T]) -> T | None:
    try:
        return send(removal.app, removal.host)
    except HostError as error:
        what = f"there is no final backup: {error.what}"
        if not removal.content["force"]:
            fix = f"{error.fix or 'correct it'}; or {AGAIN} --force, which moves the data away"
            raise HostError(what, error.where, fix) from None
        removal.set(warnings=[what])
    return None


def _resume_data(removal: Removal) -> None:
    data.resume(removal.app, removal.host)


# ---------------------------------------------------------------------------------------------- steps without an undo


def _drop_units(removal: Removal) -> None:
    """Stop and delete every unit, also those of the final backup and those that a boot started."""
    removal.machine.stop(_running(removal))
    # before the units and settings that list the accessories; their data is in no backup, so it is kept
    services.uninstall_all(removal.app, removal.host, removal.keep_data)
    for path in inventory.unit_files(removal.app):
        files.remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    removal.machine.reload()


def _drop_data(removal: Removal) -> None:
    if removal.keep_data:
        data.keep(removal.app)
        return
    removal.set(moved=data.remove(removal.app, removal.content["backup"] is not None, removal.home))


def _drop_files(removal: Removal) -> None:
    app = removal.app
    mounts: list[Place] = []
    _drop_certificates(removal)
    removal.machine.close_ports(app)
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
    """Remove a file or a directory. Returns False for a mount point, which stays as an empty directory."""
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
    """Delete Caddy's certificates and keys for the domains that no other app has."""
    others = [read_json(path) or {"routes": []} for path in (_edge(removal.app) / "apps").glob("*.json")]
    used = {name for other in others for name in caddy.hosts(other)}
    for name in set(removal.content["names"]) - used:
        for directory in (removal.app.layout.root / certificates.STORAGE.relative_to("/")).glob(f"*/{name}"):
            files.remove_tree(directory)


def _drop_users(removal: Removal) -> None:
    """Delete the app's users. With keep_data the app's own user stays, because the data belongs to it."""
    own, builder = removal.content["users"]
    for name in [builder] if removal.keep_data else [own, builder]:
        removal.machine.forget_user(name)


STEPS = [
    Step("check", _check_bucket, _nothing, again=False),
    Step("snapshot", _snapshot, _nothing, again=False),
    Step("edge", _remove_from_edge, _restore_edge),
    Step("stop", _stop, _start),
    Step("backup", _send_all, _resume_data, again=False),
    Step("units", _drop_units),
    Step("data", _drop_data),
    Step("files", _drop_files),
    Step("users", _drop_users),
]
