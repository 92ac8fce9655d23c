"""The port of an instance, and its start.

No process of an app can take the port of another app's instance: systemd forbids it where the kernel can (a BPF program
for each control group); everywhere `health` asks whose the port is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection

from hostctl.common.errors import FAILED, HostError
from hostctl.core.lock import Flock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal.engine import Work
from hostctl.release import confinement, environment, records

PORTS = confinement.INSTANCE_PORTS


def free_port(taken: Collection[int], usable: Callable[[int], bool], first: int) -> int:
    """The first free port from the place `first` of PORTS on. Raises HostError when there is none."""
    for step in range(len(PORTS)):
        candidate = PORTS[(first + step) % len(PORTS)]
        if candidate not in taken and usable(candidate):
            return candidate
    raise HostError("no port is free", f"{PORTS.start} to {PORTS.stop - 1}", "ss -ltn shows who has them", FAILED)


def start(app: App, release: str, host: Host) -> None:
    """Start the instance of a release, which can listen on its own port alone of those of instances.

    Raises HostError when systemd does not start it.
    """
    unit = app.unit(release)
    host.systemd.restrict_ports(unit, confinement.DENIED_PORTS, records.next_port(app, release))
    host.systemd.start(unit)


def assign_port(work: Work, name: str = records.PORT) -> int:
    """Assign a port that no other release of any app has: write it into the file `name` and the environment.

    Nobody can foresee it, and only root can read it until the flip.
    """
    app, layout = work.app, work.app.layout
    with Flock(layout.ports_lock, wait=10):
        own = records.port(app, work.release, name)
        mine = app.record(work.release) / name
        taken = {_number(path.read_text()) for path in layout.state.glob("*/releases/*/port*") if path != mine}
        if own is not None and own not in taken and work.host.usable(own):
            number = own
        else:
            number = free_port(taken, work.host.usable, secrets.randbelow(len(PORTS)))
        environment.write_port(app, work.release, number)
        records.write_port(app, work.release, number, name)
    return number


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
