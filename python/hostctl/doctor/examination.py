"""`hostctl APP doctor`: what commonly goes wrong on a host, looked at in one call, each with what mends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

from hostctl.common.files import Json
from hostctl.common.finding import Finding, run_check
from hostctl.core.paths import App
from hostctl.doctor import machine, service
from hostctl.doctor.case import Case
from hostctl.host.host import Host
from hostctl.verbs import inspect

CHECKS: dict[str, Callable[[Case], Iterable[Finding]]] = {
    "system": machine.system,
    "disk": machine.disk,
    "memory": machine.memory,
    "time sync": machine.time_sync,
    "units": machine.units,
    "reboot": machine.reboot,
    "packages": machine.packages,
    "app": service.app,
    "edge": service.edge,
    "maintenance": service.maintenance,
    "authority": service.authority,
    "origin": service.origin,
    "backup": service.backup,
    "store": service.store,
    "lock": service.lock,
}


def examine(app: App, host: Host) -> Json:
    """Every check's findings, and what the laptop compares itself with. `time` in seconds since the epoch."""
    case = Case(app, host)
    checks = [told for name, look in CHECKS.items() for told in run_check(name, partial(look, case))]
    known = inspect.inspect(app)
    told = {name: known[name] for name in ("hostctl", "stamp", "os", "machine", "glibc")}
    return {**told, "addresses": machine.addresses(), "checks": checks, "time": time.time()}
