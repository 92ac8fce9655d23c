"""At most one transition of an app runs at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hostctl.common.files import make_directory
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal import journal
from hostctl.transitions import recover

UNIT_START = 15.0  # seconds for the unit of a transition to take the lock


@contextmanager
def exclusive(app: App, host: Host, wait: float) -> Iterator[None]:
    """Keep every other transition of the app from beginning or running inside the block.

    Waits at most `wait` seconds for the lock. A transition that was killed is finished or undone first. Raises
    HostError (locked).
    """
    make_directory(app.state, 0o755)
    make_directory(app.records, 0o755)
    with lock.exclusive(app, wait, start_wait=max(wait, UNIT_START)):
        if journal.unfinished(app):
            with lock.Flock(app.lock, wait=2):
                recover.everything(app, host)
        yield
