"""The port of an instance."""

from __future__ import annotations

from collections.abc import Callable, Collection

from hostctl.common.errors import FAILED, HostError
from hostctl.core.lock import Flock
from hostctl.journal.engine import Work
from hostctl.release import environment, records

PORTS = range(20_000, 30_000)


def free_port(taken: Collection[int], usable: Callable[[int], bool], after: int | None) -> int:
    """The next free port after the last one used, so that a port that was just freed is not reused soon.

    Raises HostError when there is none.
    """
    start = PORTS.start if after is None else after + 1
    for step in range(len(PORTS)):
        candidate = PORTS.start + (start - PORTS.start + step) % len(PORTS)
        if candidate not in taken and usable(candidate):
            return candidate
    raise HostError("no port is free", f"{PORTS.start} to {PORTS.stop - 1}", "ss -ltn shows who has them", FAILED)


def assign_port(work: Work, name: str = records.PORT) -> int:
    """Assign a port that no other release of any app has: write it into the file `name` and the environment."""
    app, layout = work.app, work.app.layout
    with Flock(layout.ports_lock, wait=10):
        own = records.port(app, work.release, name)
        if own is not None and work.host.usable(own):
            return own
        mine = app.record(work.release) / name
        taken = {_number(path.read_text()) for path in layout.state.glob("*/releases/*/port*") if path != mine}
        latest = [p for release in records.releases(app) if (p := records.port(app, release)) is not None]
        number = free_port(taken, work.host.usable, latest[-1] if latest else None)
        environment.write_port(app, work.release, number)
        records.write_port(app, work.release, number, name)
    return number


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
