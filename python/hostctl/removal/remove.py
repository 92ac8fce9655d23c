"""`hostctl APP remove ACTION`: remove one app from the host.

The removal runs in a unit of its own. Until the final backup is verified, a step that fails reverts the removal. After
that it only goes forward: when it is interrupted, the same command or the next boot goes on with it. Its journal is in
/var/lib/homeport-removed/APP-ID, outside of what is removed. Data that is in no backup is moved there too; only a
person deletes it.

It does not use the transaction engine of journal/engine.py, for three reasons. That engine keeps its journal and
records in the app's state, which a removal deletes. It decides by the live symlink whether to finish or undo, and a
removal deletes that too. It never continues a transition after a kill, a removal continues with its remaining steps.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple, cast

from hostctl.backup import settings as backup_settings
from hostctl.common import files
from hostctl.common.documents import ErrorDocument
from hostctl.common.errors import FAILED, PERSON, REVERTED, USAGE, HostError, of_system
from hostctl.common.files import Json, read_json
from hostctl.common.names import matches, transition_id
from hostctl.core import audit, lock
from hostctl.core.paths import PROGRAM, App, Layout
from hostctl.edge import certificates
from hostctl.host.host import Host
from hostctl.release import records
from hostctl.removal import data
from hostctl.removal.steps import AGAIN, STEPS, Removal, RemovalJournal, RemovalResult, home, remaining, unit
from hostctl.removal.units import Machine
from hostctl.transitions.exclusion import exclusive
from hostctl.verbs import apps

PATIENCE = 15.0  # seconds to wait for the lock
# Restart: systemd continues it after kill -9. The network, because after a boot the final backup needs it.
PROPERTIES = ("Type=exec", "Restart=on-abnormal", "RestartSec=1", "TimeoutStopSec=60", "After=network-online.target")
BUILDER = "-build"


class RemoveRequest(NamedTuple):
    """The options of a removal. `force`: also without a final backup. `lock_wait`: seconds."""

    who: str = ""
    origin: str = ""
    keep_data: bool = False
    force: bool = False
    lock_wait: float = 0.0


# ---------------------------------------------------------------------------------------------- the actions


def perform(app: App, action: str, request: RemoveRequest, host: Host) -> Json:
    """Perform `plan`, `begin`, `progress`, or `run`, which the unit does. Returns its document. Raises HostError."""
    if action == "plan":
        return plan(app, host, Machine())
    if action == "begin":
        return begin(app, request, host)
    return progress(app, host) if action == "progress" else run(app, host, Machine())


def plan(app: App, host: Host, machine: Machine) -> Json:
    """What would be removed, sizes in bytes; for an app that is gone, the result of its removal. Raises HostError."""
    entry, last = unfinished(app), newest(app)
    if entry is None and not _exists(app):
        if last is None or last["result"] is None:
            raise _no_such_app(app)
        return {"app": app.name, "gone": {**last["result"], "who": last["who"]}}
    settings = read_json(app.config) or {}
    document: Json = {"app": app.name, "gone": None, "live": app.live(), "releases": len(records.releases(app))}
    document |= {"domains": settings.get("domains", []), "destination": settings.get("destination") or None}
    document |= {
        "engine": backup_settings.engine(app),
        "bytes": apps.used_space(app),
        "databases": data.databases(app, host),
    }
    document |= {"backup": data.bucket(app) if data.streams(app) else None}
    document |= {"users": machine.users(_users(app)), "lock": lock.holder(app)}
    return document | {"unfinished": entry and {name: entry[name] for name in ("who", "at", "keep_data", "done")}}


def progress(app: App, host: Host) -> Json:
    """Whether the removal runs, its step, and its result."""
    entry = newest(app)
    done, result = (entry["done"], entry["result"]) if entry else ([], None)
    step = next((step.name for step in STEPS if step.name not in done), "")
    return {"remove": {"running": _runs(app, host), "step": step, "result": result}, "time": time.time()}


def _runs(app: App, host: Host) -> bool:
    """Whether the unit runs, or was killed and is about to restart."""
    unit_state = host.systemd.show(unit(app))[0]
    return unit_state.runs or unit_state.sub == "auto-restart"


def begin(app: App, request: RemoveRequest, host: Host) -> Json:
    """Begin a removal, or continue one. Returns when it was begun, as `started`. Raises HostError."""
    entry = unfinished(app)
    if entry is not None:
        return _begin_again(app, entry, request, host)
    if not _exists(app):
        raise _no_such_app(app)
    with exclusive(app, host, request.lock_wait):
        removal = _create_journal(app, request, host)
        _launch(app, host)
    return {"started": removal.content["at"]}


def _begin_again(app: App, entry: RemovalJournal, request: RemoveRequest, host: Host) -> Json:
    if entry["keep_data"] != request.keep_data:
        option = " --keep-data" if entry["keep_data"] else ""
        what = f"the removal that {entry['who'] or 'somebody'} began as {AGAIN}{option} has not ended"
        raise HostError(what, str(home(app.layout)), f"{AGAIN}{option}", USAGE)
    if not _runs(app, host):
        Removal(app, entry, host, Machine()).set(force=request.force or entry["force"], result=None)
        _launch(app, host)
    return {"started": entry["at"]}


def resume_all(layout: Layout, host: Host) -> list[str]:
    """Continue every unfinished removal, at boot. Returns the names of their apps, which must not be started."""
    going = [app for app in map(layout.app, sorted({e["app"] for e in _entries(layout)})) if unfinished(app)]
    for app in going:
        with suppress(HostError):
            _launch(app, host)
    return [app.name for app in going]


def unfinished(app: App) -> RemovalJournal | None:
    """The app's removal that has neither ended nor been reverted; None without one."""
    entry = newest(app)
    return entry if entry is not None and (entry["result"] is None or entry["result"]["again"]) else None


def newest(app: App) -> RemovalJournal | None:
    """The last removal of an app of that name; None without one."""
    return next((entry for entry in reversed(_entries(app.layout)) if entry["app"] == app.name), None)


def _entries(layout: Layout) -> list[RemovalJournal]:
    """All removals, oldest first."""
    entries = [read_json(path) for path in home(layout).glob("*/remove.json")]
    valid = (cast("RemovalJournal", entry) for entry in entries if entry and matches("app", entry.get("app")))
    return sorted(valid, key=lambda entry: entry["id"])


def _exists(app: App) -> bool:
    return any(path.exists() for path in (app.config.parent, app.state, app.srv, app.data, app.cluster))


def _no_such_app(app: App) -> HostError:
    return HostError(f"there is no app {app.name} on this host", str(app.config), "deploy apps lists them", USAGE)


def _users(app: App) -> list[str]:
    """The user of the app, and the user that builds its releases."""
    return [str((read_json(app.config) or {}).get("user") or app.name), f"{app.name}{BUILDER}"]


# ---------------------------------------------------------------------------------------------- begin


def _create_journal(app: App, request: RemoveRequest, host: Host) -> Removal:
    """Create the journal of a removal. Deletes that of an earlier one that was reverted."""
    last = newest(app)
    if last is not None and last["result"] is not None and last["result"]["reverted"]:
        files.remove_tree(Removal(app, last, host, Machine()).home)
    content: RemovalJournal = {
        "id": transition_id(),
        "app": app.name,
        "who": request.who,
        "from": request.origin,
        "at": time.time(),
        "keep_data": request.keep_data,
        "force": request.force,
        "begun": [],
        "done": [],
        "reverting": None,
        "result": None,
        "users": _users(app),
        "names": certificates.names(app) if app.config.is_file() else [],
        "live": app.live(),
        "bytes": apps.used_space(app),
        "releases": len(records.releases(app)),
        "backup": None,
        "warnings": [],
    }
    removal = Removal(app, content, host, Machine())
    files.make_directory(home(app.layout), 0o700)
    files.make_directory(removal.home, 0o700)
    removal.set(result=None)
    audit.note(app, request.who, request.origin, "remove", "begun, the data stays" if request.keep_data else "begun")
    return removal


def _launch(app: App, host: Host) -> None:
    host.systemd.background(unit(app), [PROGRAM, app.name, "remove", "run"], PROPERTIES)


# ---------------------------------------------------------------------------------------------- the unit


def run(app: App, host: Host, machine: Machine) -> Json:
    """Perform the rest of the unfinished removal. Returns its result, which is on disk by then."""
    entry = unfinished(app)
    if entry is None:
        return {"removed": None}
    removal = Removal(app, entry, host, machine)
    with _locked(removal):
        return _go_forward(removal) if entry["reverting"] is None else _revert(removal, entry["reverting"])


def _locked(removal: Removal) -> AbstractContextManager[object]:
    """The app's lock, while it exists: it is removed too. Also locked as if by hand, so that nobody can push after a
    removal was killed.
    """
    app, content = removal.app, removal.content
    if not app.state.is_dir():
        return nullcontext()
    holder = {"who": content["who"], "from": content["from"], "verb": "remove", "release": None, "phase": "remove"}
    why = f"it is being removed; {AGAIN} goes on with that"
    files.write_json(app.lock_json, holder | {"since": content["at"], "message": why, "manual": True})
    return lock.Flock(app.lock, wait=PATIENCE)


def _go_forward(removal: Removal) -> Json:
    try:
        for step in STEPS:
            if step.again or step.name not in removal.content["done"]:
                removal.begin(step)
                step.do(removal)
                removal.finish(step)
    except Exception as error:
        return _failed(removal, _as_error(error))
    return _conclude(removal, None)


def _as_error(error: Exception) -> HostError:
    if isinstance(error, OSError):
        return of_system(error, "remove", str(error.filename or ""), f"{AGAIN} goes on")
    where, fix = "homeport-removed", f"{AGAIN} goes on; report it if it comes again"
    return error if isinstance(error, HostError) else HostError(f"{type(error).__name__}: {error}", where, fix)


def _failed(removal: Removal, error: HostError) -> Json:
    """Revert the removal before its final backup; later record the error, for the next attempt."""
    if "backup" not in removal.content["done"]:
        reverting = error.as_dict()
        removal.set(reverting=reverting)
        return _revert(removal, reverting)
    fix = f"{error.fix}; then {AGAIN} goes on" if AGAIN not in error.fix else error.fix
    return _conclude(removal, HostError(error.what, error.where, fix, PERSON))


def _revert(removal: Removal, reverting: ErrorDocument) -> Json:
    """Undo every begun step, the last first, because of the error `reverting`. Returns the result."""
    begun, failures = removal.content["begun"], []
    for name, undo in reversed([(step.name, step.undo) for step in STEPS if step.undo and step.name in begun]):
        try:
            undo(removal)
        except Exception as error:
            failures.append(f"{name}: {_as_error(error).what}")
    cause = HostError(**reverting)
    if failures:
        what = f"{cause.what}; then {'; '.join(failures)}"
        return _conclude(removal, HostError(what, cause.where, cause.fix, PERSON), True)
    served = removal.content["live"] and "edge" in begun
    return _conclude(removal, HostError(cause.what, cause.where, cause.fix, REVERTED if served else FAILED), True)


def _conclude(removal: Removal, error: HostError | None, reverted: bool = False) -> Json:
    content = removal.content
    result: RemovalResult = {
        "at": content["at"],
        "ended": time.time(),
        "ok": error is None,
        "reverted": reverted,
        "again": error is not None and not reverted,
        "found": [error.what] if error else [],
        "error": error.as_dict() if error else None,
        "keep_data": removal.keep_data,
        "left": remaining(removal),
        "backup": content["backup"],
        "bytes": content["bytes"],
        "releases": content["releases"],
        "warnings": content["warnings"],
        "note": str(removal.home),
    }
    if reverted and error is not None:
        audit.note(removal.app, content["who"], content["from"], "remove", f"taken back: {error.what}")
        files.unlink(removal.app.lock_json)
    removal.set(result=result)
    return {"removed": result}
