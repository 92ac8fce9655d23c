"""After the flip: the old instance ends when nobody is connected any more, or when its time is up; then
prune.

Runs in a unit of its own, so that neither the laptop nor the next command has to wait for an open websocket.
"""

from __future__ import annotations

from hostctl.common.files import Json
from hostctl.core.lock import Flock
from hostctl.core.paths import PROGRAM, App
from hostctl.host.systemd import self_command
from hostctl.journal import journal
from hostctl.journal.journal import Journal
from hostctl.journal.steps import Work
from hostctl.release import records
from hostctl.transitions import prune, switch

POLL = 0.1


def unit(app: App, entry: Journal) -> str:
    """The transient unit that drains what a transition superseded."""
    return app.helper_unit(f"drain-{entry.previous}")


def launch(work: Work) -> None:
    """Hand the old instance over.

    Raises HostError when systemd refuses; the next command takes care of it then.
    """
    argv = self_command(PROGRAM, work.app.name, "drain", work.journal.id)
    work.host.systemd.background(
        unit(work.app, work.journal), argv, ["Type=exec", "TimeoutStopSec=5", "OOMScoreAdjust=-500"]
    )


def run(work: Work) -> Json:
    """Drain, stop, prune. Killed at any instant, it can be run again."""
    entry = work.journal
    if entry.content["closed"] or entry.previous is None:
        return {"drained": None}
    _drain(work, entry.previous)
    _stop(work, entry.previous)
    _prune(work)
    entry.set(closed=True)
    return {"drained": entry.previous}


def _drain(work: Work, old: str) -> None:
    work.journal.event("drain", "begin", work.app.unit(old))
    begun = work.host.clock()
    left = switch.wait_for_silence(work, records.port(work.app, old), work.settings["drain_timeout"])
    text = f"{left} connections were cut after {work.settings['drain_timeout']:g} s" if left else "nobody is connected"
    work.journal.event("drain", "ok", text, _ms(work, begun))


def _stop(work: Work, old: str) -> None:
    begun = work.host.clock()
    work.journal.event("stop", "begin", work.app.unit(old))
    if work.app.live() != old:
        work.host.systemd.stop(work.app.unit(old))
    work.journal.event("stop", "ok", "", _ms(work, begun))


def _prune(work: Work) -> None:
    """A transition at work keeps the lock: then the pruning is left to its own drain."""
    begun = work.host.clock()
    work.journal.event("prune", "begin")
    try:
        with Flock(work.app.lock):
            gone = prune.run(work.app, work.host.systemd, work.settings["retain_releases"])
    except BlockingIOError:
        work.journal.event("prune", "ok", "left to the transition at work", _ms(work, begun))
        return
    work.journal.event("prune", "ok", ", ".join(gone), _ms(work, begun))


def _ms(work: Work, begun: float) -> int:
    return round((work.host.clock() - begun) * 1000)


# -------------------------------------------------------------------------- drains that meet a new transition


def wait(work: Work) -> str | None:
    """Wait until every older drain has ended, each at most its own drain_timeout; then end it."""
    waited = [_wait_one(work, entry) for entry in others(work)]
    return ", ".join(waited) or None


def others(work: Work) -> list[Journal]:
    """Transitions whose old instance still runs."""
    return [entry for entry in journal.draining(work.app) if entry.id != work.journal.id]


def _wait_one(work: Work, entry: Journal) -> str:
    name, limit = unit(work.app, entry), entry.content["settings"]["drain_timeout"]
    begun = work.host.clock()
    number = records.port(work.app, entry.previous or "")
    left = work.host.connections(number) if number else 0
    work.note(f"{entry.previous} still drains ({left} connections); waiting, at most {limit:g} s")
    while work.host.systemd.show(name)[0].runs and work.host.clock() - begun < limit:
        work.host.sleep(POLL)
    cut(work, entry, keep=None)
    return f"{entry.previous} has ended"


def cut_all(work: Work, keep: str | None) -> str | None:
    """End every older drain now; the instance of `keep` runs on."""
    entries = others(work)
    for entry in entries:
        cut(work, entry, keep)
    return ", ".join(f"the drain of {entry.previous} ends now" for entry in entries) or None


def cut(work: Work, entry: Journal, keep: str | None) -> None:
    """End one drain: its unit, then the instance, unless that is kept or live."""
    work.host.systemd.stop(unit(work.app, entry))
    latest = journal.load(work.app, entry.id)
    if latest is None or latest.content["closed"]:
        return
    old = entry.previous
    if old is not None and old not in (keep, work.app.live()):
        work.host.systemd.stop(work.app.unit(old))
    latest.set(closed=True)
