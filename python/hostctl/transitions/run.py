"""The process that makes a switch, in its transient unit: takes the lock, performs the steps, hands over to
the drain.
"""

from __future__ import annotations

import signal
from functools import partial
from types import FrameType

from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import Json
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal import journal
from hostctl.journal.steps import Interrupted, Work, perform, revert
from hostctl.transitions import drain, prune, recover, tables

LOCK_WAIT = 10.0  # seconds; only a glance at the lock can be in the way


def run(app: App, transition: str, host: Host) -> Json:
    """Perform a transition that `begin` wrote down.

    Raises HostError when there is none, or the lock is taken.
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
    # an undo is how a transition ends anyway, and must not itself be cut short
    if entry.reverting is None:
        raise Interrupted


def _locked(work: Work) -> Json:
    work.tell("lock")
    mended = recover.others(work)
    steps = tables.planned(work, tables.Case(work.settings, bool(drain.others(work))))
    work.journal.set(taken=True, previous=work.app.live())
    work.journal.event("lock", "ok", f"{work.verb} of {work.release}, {work.journal.previous or 'nothing'} is live")
    for text in mended:
        work.journal.event("recover", "ok", text)
    if work.journal.previous == work.release and not work.in_place:
        return revert(work, [], HostError(f"{work.release} is live already", work.app.name, "deploy status"))
    result = perform(work, steps)
    after(work)
    return result


def after(work: Work) -> None:
    """What comes once the result is on disk: the drain in its unit, or the pruning when there is nothing to
    drain.
    """
    work.tell(lock.ENDING)
    if not work.journal.content["closed"]:
        drain.launch(work)
        return
    gone = prune.run(work.app, work.host.systemd, work.settings["retain_releases"])
    if gone:
        work.journal.event("prune", "ok", ", ".join(gone))
