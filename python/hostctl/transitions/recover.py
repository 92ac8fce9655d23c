"""Recovery after a crash: unfinished transitions are finished or undone, and drains that stopped are resumed."""

from __future__ import annotations

import os
from contextlib import suppress

from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.instance import start as instance_start
from hostctl.journal import journal
from hostctl.journal.engine import Work, settle
from hostctl.journal.journal import Journal
from hostctl.transitions import tables
from hostctl.transitions.steps import drain


def everything(app: App, host: Host, booting: bool = False) -> list[str]:
    """Finish or undo every unfinished transition and resume every drain. The caller holds the lock.

    Returns a line for each unfinished transition.
    """
    lines = [_settle(app, entry, host, booting) for entry in journal.unfinished(app)]
    for entry in journal.draining(app):
        _resume(Work(app, entry, host, booting))
    return lines


def others(work: Work) -> list[str]:
    """As `everything`, from within a transition, whose own steps end the drains."""
    entries = [entry for entry in journal.unfinished(work.app) if entry.id != work.journal.id]
    return [_settle(work.app, entry, work.host, False) for entry in entries]


def _settle(app: App, entry: Journal, host: Host, booting: bool) -> str:
    entry.event("recover", "begin", "the transition was interrupted")
    work = Work(app, entry, host, booting)
    result = settle(work, tables.every(work))
    text = f"{entry.content['verb']} of {entry.release}: " + ("finished" if result["result"] == "live" else "undone")
    entry.event("recover", "ok", text)
    return text


def _resume(work: Work) -> None:
    """Start the drain again if its unit is gone. After a reboot the old instance does not run: the drain is closed."""
    if work.booting:
        work.journal.set(closed=True)
    elif not work.host.systemd.show(drain.unit(work.app, work.journal))[0].runs:
        drain.launch(work)


def verb(app: App, host: Host) -> Json:
    """`hostctl APP recover`, which systemd runs after every transition (ExecStopPost).

    Returns a line for each transition that was finished or undone; `held` when a running one holds the lock.
    """
    if os.environ.get("SERVICE_RESULT") == "success":
        return {"recovered": []}
    if not journal.unfinished(app) and not journal.draining(app):
        return {"recovered": []}
    try:
        with lock.Flock(app.lock, wait=2):
            lines = everything(app, host)
    except BlockingIOError:
        return {"recovered": [], "held": True}
    return {"recovered": lines}


def boot(apps: list[App], host: Host) -> Json:
    """`hostctl boot`: recover every app, then start its live release. Returns `started` and `errors` by app.

    One app's failure does not stop another's start.
    """
    started: dict[str, str | None] = {}
    errors: dict[str, str] = {}
    for app in apps:
        try:
            started[app.name] = _boot(app, host)
        except Exception as error:
            errors[app.name] = f"{type(error).__name__}: {error}"
            with suppress(HostError):
                started[app.name] = _start_live(app, host)
    return {"started": started, "errors": errors}


def _boot(app: App, host: Host) -> str | None:
    if app.state.is_dir():
        with suppress(BlockingIOError), lock.Flock(app.lock):
            everything(app, host, booting=True)
    return _start_live(app, host)


def _start_live(app: App, host: Host) -> str | None:
    live = app.live()
    if live is not None:
        instance_start.start(app, live, host)
    return live
