"""The drain after a flip: the old instance is stopped when its connections have ended or drain_timeout has passed.

It runs in a unit of its own, so that neither the laptop nor the next command waits for an open websocket. It prunes
afterwards.
"""

from __future__ import annotations

from hostctl.common.files import Json
from hostctl.core.lock import Flock
from hostctl.core.paths import PROGRAM, App
from hostctl.host.systemd import self_command
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.journal.journal import Journal
from hostctl.release import records
from hostctl.transitions.steps import prune, switch

POLL = 0.1  # seconds


def unit(app: App, entry: Journal) -> str:
    """The transient unit that drains the release which a transition superseded."""
    return app.helper_unit(f"drain-{entry.previous}")


def launch(work: Work) -> None:
    """Start the unit that drains the old instance.

    Raises HostError when systemd refuses; the next transition ends the instance then.
    """
    argv = self_command(PROGRAM, work.app.name, "drain", work.journal.id)
    work.host.systemd.background(
        unit(work.app, work.journal), argv, ["Type=exec", "TimeoutStopSec=5", "OOMScoreAdjust=-500"]
    )


def run(work: Work) -> Json:
    """Drain, stop, prune. Returns the release that was `drained`. After a kill it can be run again."""
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
    left = switch.wait_until_drained(work, records.port(work.app, old), work.settings["drain_timeout"])
    text = (
        f"{left} connections were closed after {work.settings['drain_timeout']:g} s" if left else "nobody is connected"
    )
    work.journal.event("drain", "ok", text, _ms(work, begun))


def _stop(work: Work, old: str) -> None:
    begun = work.host.clock()
    work.journal.event("stop", "begin", work.app.unit(old))
    if work.app.live() != old:
        work.host.systemd.stop(work.app.unit(old))
    work.journal.event("stop", "ok", "", _ms(work, begun))


def _prune(work: Work) -> None:
    """Prune, unless a transition holds the lock: its own drain prunes."""
    begun = work.host.clock()
    work.journal.event("prune", "begin")
    try:
        with Flock(work.app.lock):
            gone = prune.prune(work.app, work.host.systemd, work.settings["retain_releases"])
    except BlockingIOError:
        work.journal.event("prune", "ok", "left to the running transition", _ms(work, begun))
        return
    work.journal.event("prune", "ok", ", ".join(gone), _ms(work, begun))


def _ms(work: Work, begun: float) -> int:
    return round((work.host.clock() - begun) * 1000)


# -------------------------------------------------------------------------- older drains during a transition


def wait(work: Work) -> str | None:
    """Wait until every older drain has ended, each at most its drain_timeout. Returns a line to show, if any."""
    waited = [_wait_one(work, entry) for entry in others(work)]
    return ", ".join(waited) or None


def others(work: Work) -> list[Journal]:
    """Other transitions whose old instance still drains."""
    return [entry for entry in journal.draining(work.app) if entry.id != work.journal.id]


def _wait_one(work: Work, entry: Journal) -> str:
    name, limit = unit(work.app, entry), entry.content["settings"]["drain_timeout"]
    begun = work.host.clock()
    port = records.port(work.app, entry.previous or "")
    left = work.host.connections(port) if port else 0
    work.note(f"{entry.previous} still drains ({left} connections); waiting, at most {limit:g} s")
    while work.host.systemd.show(name)[0].runs and work.host.clock() - begun < limit:
        work.host.sleep(POLL)
    cut(work, entry, keep=None)
    return f"{entry.previous} has ended"


def cut_all(work: Work, keep: str | None) -> str | None:
    """End every older drain at once; the instance of `keep` runs on. Returns a line to show, if any."""
    entries = others(work)
    for entry in entries:
        cut(work, entry, keep)
    return ", ".join(f"the drain of {entry.previous} ends now" for entry in entries) or None


def cut(work: Work, entry: Journal, keep: str | None) -> None:
    """End a drain: stop its unit, then the instance, unless it is that of `keep` or live."""
    work.host.systemd.stop(unit(work.app, entry))
    latest = journal.load(work.app, entry.id)
    if latest is None or latest.content["closed"]:
        return
    old = entry.previous
    if old is not None and old not in (keep, work.app.live()):
        work.host.systemd.stop(work.app.unit(old))
    latest.set(closed=True)
