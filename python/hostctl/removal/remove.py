"""`hostctl APP remove ACTION`: one app leaves the host whole, and every other stays as it is.

In a unit of its own, by steps that can all be done again. Until the final backup is proven, a step that fails has
everything put back; after it the removal only goes forward, and whatever cuts it short, the same command or the next
boot goes on with it. The journal lies outside of what is removed, in /var/lib/homeport-removed/APP-ID, beside what no
backup holds: that is moved there, and only a person deletes it.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple

from hostctl.backup import settings as backup_settings
from hostctl.common import files
from hostctl.common.errors import FAILED, PERSON, REVERTED, USAGE, HostError, of_system
from hostctl.common.files import Json, read_json
from hostctl.common.names import matches, transition_id
from hostctl.core import audit, lock
from hostctl.core.paths import PROGRAM, App, Layout
from hostctl.edge import certificates
from hostctl.host.host import Host
from hostctl.release import records
from hostctl.removal import data
from hostctl.removal.steps import AGAIN, STEPS, Removal, home, left, unit
from hostctl.removal.units import Machine
from hostctl.transitions.exclusion import exclusive
from hostctl.verbs import apps

PATIENCE = 15.0  # seconds for whoever holds the lock at this instant
# Restart: after kill -9 systemd has it go on at once. A network, because the final backup needs one after a boot.
PROPERTIES = ("Type=exec", "Restart=on-abnormal", "RestartSec=1", "TimeoutStopSec=60", "After=network-online.target")
BUILDER = "-build"


class Wish(NamedTuple):
    """What a person asked for. `force`: also without a final backup; `lock_wait` in seconds."""

    who: str = ""
    origin: str = ""
    keep_data: bool = False
    force: bool = False
    lock_wait: float = 0.0


# ---------------------------------------------------------------------------------------------- what is asked of it


def verb(app: App, action: str, wish: Wish, host: Host) -> Json:
    """`plan`, `begin`, `progress`; `run` is what the unit does. Raises HostError."""
    if action == "plan":
        return plan(app, host, Machine())
    if action == "begin":
        return begin(app, wish, host)
    return progress(app, host) if action == "progress" else run(app, host, Machine())


def plan(app: App, host: Host, machine: Machine) -> Json:
    """What would go, sizes in bytes; where nothing is left, how the last removal ended. Raises HostError (usage)."""
    entry, last = unfinished(app), newest(app)
    if entry is None and not _anything(app):
        if last is None:
            raise _nothing(app)
        return {"app": app.name, "gone": {**last["result"], "who": last["who"]}}
    settings = read_json(app.config) or {}
    told: Json = {"app": app.name, "gone": None, "live": app.live(), "releases": len(records.releases(app))}
    told |= {"domains": settings.get("domains", []), "destination": settings.get("destination") or None}
    told |= {"engine": backup_settings.engine(app), "bytes": apps.used(app), "databases": data.databases(app, host)}
    told |= {"backup": data.bucket(app) if data.streams(app) else None}
    told |= {"users": machine.users(_users(app)), "lock": lock.holder(app)}
    return told | {"unfinished": entry and {name: entry[name] for name in ("who", "at", "keep_data", "done")}}


def progress(app: App, host: Host) -> Json:
    """What the laptop asks while it runs, and when it has ended."""
    entry = newest(app) or {"done": [], "result": None}
    step = next((step.name for step in STEPS if step.name not in entry["done"]), "")
    return {"remove": {"running": _runs(app, host), "step": step, "result": entry["result"]}, "time": time.time()}


def _runs(app: App, host: Host) -> bool:
    """Whether it is at work, or was killed and is about to go on."""
    told = host.systemd.show(unit(app))[0]
    return told.runs or told.sub == "auto-restart"


def begin(app: App, wish: Wish, host: Host) -> Json:
    """Begin a removal, or go on with one. Returns since when it is under way. Raises HostError."""
    entry = unfinished(app)
    if entry is not None:
        return _begin_again(app, entry, wish, host)
    if not _anything(app):
        raise _nothing(app)
    with exclusive(app, host, wish.lock_wait):
        removal = _written(app, wish, host)
        _launch(app, host)
    return {"started": removal.content["at"]}


def _begin_again(app: App, entry: Json, wish: Wish, host: Host) -> Json:
    if entry["keep_data"] != wish.keep_data:
        said = " --keep-data" if entry["keep_data"] else ""
        what = f"the removal that {entry['who'] or 'somebody'} began as {AGAIN}{said} has not ended"
        raise HostError(what, str(home(app.layout)), f"{AGAIN}{said}", USAGE)
    if not _runs(app, host):
        Removal(app, entry, host, Machine()).set(force=wish.force or entry["force"], result=None)
        _launch(app, host)
    return {"started": entry["at"]}


def go_on(layout: Layout, host: Host) -> list[str]:
    """After a reboot: go on with every removal that has not ended. Returns its apps, which nobody is to start."""
    going = [app for app in map(layout.app, sorted({e["app"] for e in _entries(layout)})) if unfinished(app)]
    for app in going:
        with suppress(HostError):
            _launch(app, host)
    return [app.name for app in going]


def unfinished(app: App) -> Json | None:
    """The removal of the app that has neither ended nor been taken back."""
    entry = newest(app)
    return entry if entry is not None and (entry["result"] is None or entry["result"]["again"]) else None


def newest(app: App) -> Json | None:
    """The last removal of an app of that name."""
    return next((entry for entry in reversed(_entries(app.layout)) if entry["app"] == app.name), None)


def _entries(layout: Layout) -> list[Json]:
    """All removals, oldest first."""
    found = [read_json(path) for path in home(layout).glob("*/remove.json")]
    return sorted((one for one in found if one and matches("app", one.get("app"))), key=lambda one: str(one["id"]))


def _anything(app: App) -> bool:
    return any(path.exists() for path in (app.config.parent, app.state, app.srv, app.data, app.cluster))


def _nothing(app: App) -> HostError:
    return HostError(f"there is no app {app.name} on this host", str(app.config), "deploy apps lists them", USAGE)


def _users(app: App) -> list[str]:
    """The app's own, and the one who builds its releases."""
    return [str((read_json(app.config) or {}).get("user") or app.name), f"{app.name}{BUILDER}"]


# ---------------------------------------------------------------------------------------------- how it begins


def _written(app: App, wish: Wish, host: Host) -> Removal:
    """The journal of a new removal; that of one which was taken back goes."""
    last = newest(app)
    if last is not None and last["result"]["reverted"]:
        files.remove_tree(Removal(app, last, host, Machine()).home)
    content: Json = {"id": transition_id(), "app": app.name, "who": wish.who, "from": wish.origin, "at": time.time()}
    content |= {"keep_data": wish.keep_data, "force": wish.force, "begun": [], "done": [], "reverting": None}
    content |= {
        "users": _users(app),
        "names": certificates.names(app) if app.config.is_file() else [],
        "live": app.live(),
    }
    content |= {"bytes": apps.used(app), "releases": len(records.releases(app)), "backup": None, "warnings": []}
    removal = Removal(app, content, host, Machine())
    files.make_directory(home(app.layout), 0o700)
    files.make_directory(removal.home, 0o700)
    removal.set(result=None)
    audit.note(app, wish.who, wish.origin, "remove", "begun, the data stays" if wish.keep_data else "begun")
    return removal


def _launch(app: App, host: Host) -> None:
    host.systemd.background(unit(app), [PROGRAM, app.name, "remove", "run"], PROPERTIES)


# ---------------------------------------------------------------------------------------------- the unit


def run(app: App, host: Host, machine: Machine) -> Json:
    """Do what is left of the unfinished removal. Returns its result, which is on disk by then."""
    entry = unfinished(app)
    if entry is None:
        return {"removed": None}
    removal = Removal(app, entry, host, machine)
    with _held(removal):
        return _forward(removal) if entry["reverting"] is None else _back(removal)


def _held(removal: Removal) -> AbstractContextManager[object]:
    """The lock of the app, as long as there is one: it is among what goes. Locked as by hand as well, so that nobody
    pushes to what a killed removal left.
    """
    app, content = removal.app, removal.content
    if not app.state.is_dir():
        return nullcontext()
    told = {"who": content["who"], "from": content["from"], "verb": "remove", "release": None, "phase": "remove"}
    why = f"it is being removed; {AGAIN} goes on with that"
    files.write_json(app.lock_json, told | {"since": content["at"], "message": why, "manual": True})
    return lock.Flock(app.lock, wait=PATIENCE)


def _forward(removal: Removal) -> Json:
    try:
        for step in STEPS:
            if step.again or step.name not in removal.content["done"]:
                removal.begin(step)
                step.do(removal)
                removal.finish(step)
    except Exception as error:
        return _failed(removal, _as_error(error))
    return _ended(removal, None)


def _as_error(error: Exception) -> HostError:
    if isinstance(error, OSError):
        return of_system(error, "remove", str(error.filename or ""), f"{AGAIN} goes on")
    where, fix = "homeport-removed", f"{AGAIN} goes on; report it if it comes again"
    return error if isinstance(error, HostError) else HostError(f"{type(error).__name__}: {error}", where, fix)


def _failed(removal: Removal, error: HostError) -> Json:
    """Take it back while that is possible; else it stays for the next attempt."""
    if "backup" not in removal.content["done"]:
        removal.set(reverting=error.as_dict())
        return _back(removal)
    fix = f"{error.fix}; then {AGAIN} goes on" if AGAIN not in error.fix else error.fix
    return _ended(removal, HostError(error.what, error.where, fix, PERSON))


def _back(removal: Removal) -> Json:
    """Undo every step that was begun, the last first."""
    begun, failures = removal.content["begun"], []
    for name, undo in reversed([(step.name, step.undo) for step in STEPS if step.undo and step.name in begun]):
        try:
            undo(removal)
        except Exception as error:
            failures.append(f"{name}: {_as_error(error).what}")
    told = HostError(**removal.content["reverting"])
    if failures:
        what = f"{told.what}; then {'; '.join(failures)}"
        return _ended(removal, HostError(what, told.where, told.fix, PERSON), True)
    served = removal.content["live"] and "edge" in begun
    return _ended(removal, HostError(told.what, told.where, told.fix, REVERTED if served else FAILED), True)


def _ended(removal: Removal, error: HostError | None, reverted: bool = False) -> Json:
    content = removal.content
    result: Json = {"at": content["at"], "ended": time.time(), "ok": error is None, "reverted": reverted}
    result |= {"again": error is not None and not reverted, "found": [error.what] if error else []}
    result |= {"error": error.as_dict() if error else None, "keep_data": removal.keep_data, "left": left(removal)}
    result |= {name: content[name] for name in ("backup", "bytes", "releases", "warnings")}
    if reverted and error is not None:
        audit.note(removal.app, content["who"], content["from"], "remove", f"taken back: {error.what}")
        files.unlink(removal.app.lock_json)
    removal.set(result={**result, "note": str(removal.home)})
    return {"removed": content["result"]}
