"""The units of a backup and of a drill."""

from __future__ import annotations

from hostctl.common.errors import LOCKED, HostError
from hostctl.core.paths import PROGRAM, App
from hostctl.host.host import Host


def drill_unit(app: App) -> str:
    """The unit that the drill's timer starts."""
    return app.helper_unit("drill")


def run_unit(app: App) -> str:
    """The unit of `deploy backup run`."""
    return app.helper_unit("backup")


def start_run(app: App, host: Host) -> None:
    """Begin a backup in a unit of its own. Raises HostError."""
    host.systemd.background(run_unit(app), [PROGRAM, app.name, "backup", "run"], ())


def refuse_second_run(host: Host, unit: str, what: str) -> None:
    """Raises HostError (locked) when the unit runs already."""
    if host.systemd.show(unit)[0].runs:
        raise HostError(f"{what} runs already", unit, "wait until it is done: deploy backup status", LOCKED)
