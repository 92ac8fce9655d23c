"""The events of a transition, as they come: a long poll, so that one SSH command sees a whole step."""

from __future__ import annotations

import time

from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import Json, read_lines
from hostctl.core.lock import is_held
from hostctl.core.paths import App
from hostctl.journal import journal

POLL = 0.02
ABANDONED = 2.0  # seconds without a word before it is looked whether anybody is at work
LONGEST = 60.0  # seconds


def follow(app: App, transition: str | None, after: int, wait: float) -> Json:
    """Events past the first `after`; returns at the first new one, when it is over, or after `wait` seconds."""
    known = journal.ids(app)
    wanted = transition or (known[-1] if known else None)
    begun = time.monotonic()
    while True:
        told = _look(app, wanted, after)
        waited = time.monotonic() - begun
        if told["events"] or told["done"] or waited >= min(wait, LONGEST):
            return told
        if waited >= ABANDONED and _nobody_works(app) and told["verb"] != "build":
            _recover(app)
        time.sleep(POLL)


def _recover(app: App) -> None:
    # imported late: following is what a push does most often, recovering what it hardly ever does
    from hostctl.host.host import Host
    from hostctl.transitions import recover

    recover.verb(app, Host())


def _nobody_works(app: App) -> bool:
    """Whether a transition that has not ended has been left by everybody, its own unit's last act included."""
    return not is_held(app.lock) and not is_held(app.start_lock)


def _look(app: App, transition: str | None, after: int) -> Json:
    # the journal first: a result that is seen has all its events before it
    entry = journal.load(app, transition) if transition else None
    if transition is None or entry is None:
        raise HostError(
            f"no transition {transition or ''} of {app.name} is known",
            str(app.transitions),
            "deploy push",
            FAILED,
        )
    events = read_lines(entry.directory / "events.jsonl", after)
    told = {"transition": transition, "verb": entry.content["verb"], "release": entry.content["release"]}
    return told | {
        "events": events,
        "next": after + len(events),
        "done": entry.result is not None,
        "result": entry.result,
    }
