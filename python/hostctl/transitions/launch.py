"""The transient unit that performs a transition: how it is started."""

from __future__ import annotations

from collections.abc import Callable

from hostctl.common.errors import FAILED, HostError
from hostctl.core import lock
from hostctl.core.paths import PROGRAM, App
from hostctl.host.host import Host
from hostctl.host.systemd import UNIT_EXISTS, self_command
from hostctl.journal import journal
from hostctl.transitions import recover
from hostctl.transitions.exclusion import UNIT_START

POLL = 0.005  # seconds between two looks for the unit's first act
UNIT_POLL = 0.02  # seconds between two tries to start the unit


def launch(app: App, entry: journal.Journal, host: Host) -> None:
    """Start the unit of a transition and return when it holds the lock.

    Raises HostError when it does not start; the transition is undone by then.
    """
    argv = self_command(PROGRAM, app.name, "transition", entry.id)
    # mixed: SIGTERM is sent to hostctl alone, which undoes its steps; systemd runs ExecStopPost after kill -9 as well
    after = f"ExecStopPost={PROGRAM} {app.name} recover"
    properties = ["Type=exec", "KillMode=mixed", "TimeoutStopSec=60", "OOMScoreAdjust=-900", after]
    try:
        _start_unit(app.helper_unit("transition"), argv, properties, host)
        _wait_for(lambda: _has_begun(app, entry.id), app, host)
    except HostError:
        with lock.Flock(app.lock, wait=2):
            recover.everything(app, host)
        raise


def _start_unit(unit: str, argv: list[str], properties: list[str], host: Host) -> None:
    """Start the unit. The process of the transition before releases the lock a moment before systemd unloads its unit:
    until then the name is in use.
    """
    deadline = host.clock() + UNIT_START
    while True:
        try:
            return host.systemd.background(unit, argv, properties)
        except HostError as error:
            if error.reason != UNIT_EXISTS or host.clock() >= deadline:
                raise
        host.sleep(UNIT_POLL)


def _has_begun(app: App, transition: str) -> bool:
    entry = journal.load(app, transition)
    return entry is not None and (entry.result is not None or entry.content.get("taken") is not None)


def _wait_for(done: Callable[[], bool], app: App, host: Host) -> None:
    deadline = host.clock() + UNIT_START
    while not done():
        if host.clock() >= deadline:
            unit = app.helper_unit("transition")
            raise HostError("the transition did not begin", unit, f"journalctl -u {unit}", FAILED)
        host.sleep(POLL)
