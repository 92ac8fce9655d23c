"""`hostctl APP doctor`: checks for common problems of a host, each with its fix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

from hostctl.common.files import Json
from hostctl.common.finding import Finding, run_check
from hostctl.core.paths import App
from hostctl.doctor import machine, service
from hostctl.doctor.context import Context
from hostctl.host.host import Host
from hostctl.verbs import inspect

CHECKS: dict[str, Callable[[Context], Iterable[Finding]]] = {
    "system": machine.system,
    "disk": machine.disk,
    "memory": machine.memory,
    "time sync": machine.time_sync,
    "units": machine.units,
    "reboot": machine.reboot,
    "packages": machine.packages,
    "firewall": machine.firewall,
    "app": service.app,
    "edge": service.edge,
    "maintenance": service.maintenance,
    "authority": service.authority,
    "origin": service.origin,
    "backup": service.backup,
    "store": service.store,
    "lock": service.lock,
}


def run_checks(app: App, host: Host) -> Json:
    """The findings of every check, and facts that the laptop compares with its own. `time`: seconds since the epoch."""
    context = Context(app, host)
    findings = [finding for name, check in CHECKS.items() for finding in run_check(name, partial(check, context))]
    inspected = inspect.inspect(app)
    facts = {name: inspected[name] for name in ("hostctl", "stamp", "os", "machine", "glibc")}
    return {**facts, "addresses": machine.addresses(), "checks": findings, "time": time.time()}
