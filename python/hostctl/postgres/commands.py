"""`hostctl APP stream` for PostgreSQL: the actions of its systemd units and of provisioning."""

from __future__ import annotations

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.archive import monitor, replication, wal_stream


def run_action(app: App, action: str, host: Host, allow_empty: bool = False) -> Json:
    """Perform `hostctl APP stream ACTION`. Raises HostError."""
    if action == "start":
        return {**replication.start(app, host, allow_empty)}
    if action == "tail":
        wal_stream.stream(app, host)
        return {}
    if action == "watch":
        return monitor.check(app, host)
    raise HostError(f"PostgreSQL's stream has no {action}", "the arguments", "use the deploy of this version", USAGE)
