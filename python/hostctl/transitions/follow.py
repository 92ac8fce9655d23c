"""The events of a transition by a long poll: one SSH command waits for a whole step."""

from __future__ import annotations

import time
from typing import cast

from hostctl.common.documents import Event, Followed
from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import read_lines
from hostctl.core.lock import is_held
from hostctl.core.paths import App
from hostctl.journal import journal

POLL = 0.02
ABANDONED = 2.0  # seconds without an event after which it is checked whether the transition still runs
LONGEST = 60.0  # seconds


def follow(app: App, transition: str | None, after: int, wait: float) -> Followed:
    """The events after the first `after`, of the newest transition by default.

    Returns at the first new event, when the transition has ended, or after `wait` seconds. Raises HostError when
    there is no such transition.
    """
    known = journal.ids(app)
    name = transition or (known[-1] if known else None)
    begun = time.monotonic()
    while True:
        look = _look(app, name, after)
        waited = time.monotonic() - begun
        if look["events"] or look["done"] or waited >= min(wait, LONGEST):
            return look
        if waited >= ABANDONED and _is_abandoned(app) and look["verb"] != "build":
            _recover(app)
        time.sleep(POLL)


def _recover(app: App) -> None:
    # imported late: at the top it raises the processor time of importing this module from 0.07 s to 0.39 s
    from hostctl.host.host import Host
    from hostctl.transitions import recover

    recover.verb(app, Host())


def _is_abandoned(app: App) -> bool:
    """Whether no process works on the unfinished transition: neither its unit nor the recovery after it."""
    return not is_held(app.lock) and not is_held(app.start_lock)


def _look(app: App, transition: str | None, after: int) -> Followed:
    # the journal is read first: the events of a result that it holds are all written
    entry = journal.load(app, transition) if transition else None
    if transition is None or entry is None:
        raise HostError(
            f"no transition {transition or ''} of {app.name} is known",
            str(app.transitions),
            "deploy push",
            FAILED,
        )
    events = cast("list[Event]", read_lines(entry.directory / "events.jsonl", after))
    return {
        "transition": transition,
        "verb": entry.content["verb"],
        "release": entry.content["release"],
        "events": events,
        "next": after + len(events),
        "done": entry.result is not None,
        "result": entry.result,
    }
