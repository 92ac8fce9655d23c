"""The process that performs a transition, in its transient unit: it takes the lock, performs the steps and starts the
drain.
"""

from __future__ import annotations

import signal
from functools import partial
from types import FrameType

from hostctl.common.documents import Result
from hostctl.common.errors import FAILED, HostError
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal import journal
from hostctl.journal.engine import Interrupted, Work, perform, revert
from hostctl.transitions import recover, tables
from hostctl.transitions.steps import drain, prune

LOCK_WAIT = 10.0  # seconds; others hold the lock only for a moment


def run(app: App, transition: str, host: Host) -> Result:
    """Perform a transition whose journal `begin` wrote. Returns its result.

    Raises HostError when there is no such transition or it has ended; BlockingIOError when the lock is held.
    """
    with lock.Flock(app.lock, wait=LOCK_WAIT):
        entry = journal.load(app, transition)
        if entry is None or entry.result is not None:
            raise HostError(
                f"there is no transition {transition} to perform", str(app.transitions), "deploy push", FAILED
            )
        signal.signal(signal.SIGTERM, partial(_interrupt, entry))
        try:
            return _locked(Work(app, entry, host))
        finally:
            app.lock_json.unlink(missing_ok=True)


def _interrupt(entry: journal.Journal, *_: int | FrameType | None) -> None:
    # a transition that is being undone ends anyway: the undo must not be interrupted
    if entry.reverting is None:
        raise Interrupted


def _locked(work: Work) -> Result:
    work.show_phase("lock")
    recovered = recover.others(work)
    steps = tables.planned(work, tables.Case(work.settings, bool(drain.others(work))))
    work.journal.set(taken=True, previous=work.app.live())
    work.journal.event("lock", "ok", f"{work.verb} of {work.release}, {work.journal.previous or 'nothing'} is live")
    for text in recovered:
        work.journal.event("recover", "ok", text)
    if work.journal.previous == work.release and not work.in_place:
        return revert(work, [], HostError(f"{work.release} is live already", work.app.name, "deploy status"))
    result = perform(work, steps)
    finish(work)
    return result


def finish(work: Work) -> None:
    """Start the drain, once the result is on disk; prune when there is nothing to drain."""
    work.show_phase(lock.ENDING)
    if not work.journal.content["closed"]:
        drain.launch(work)
        return
    gone = prune.prune(work.app, work.host.systemd, work.settings["retain_releases"])
    if gone:
        work.journal.event("prune", "ok", ", ".join(gone))
