"""`hostctl APP stream` for SQLite: the actions of its units and of provisioning."""

from __future__ import annotations

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite.stream import bootstrap, monitor, replication


def run_action(app: App, action: str, host: Host, allow_empty: bool = False) -> Json:
    """`hostctl APP stream ACTION`. Raises HostError."""
    if action == "start":
        return replication.start(app, host, allow_empty)
    if action == "condition":
        return replication.condition(app)
    if action == "prepare":
        return bootstrap.prepare(app, host)
    if action == "stopped":
        return replication.stopped(app)
    if action == "watch":
        return monitor.check(app, host)
    raise HostError(f"SQLite's stream has no {action}", "the arguments", "use the deploy of this version", USAGE)
