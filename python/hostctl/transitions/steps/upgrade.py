"""How an upgrade of PostgreSQL to a newer major version begins."""

from __future__ import annotations

import time

from hostctl.common.documents import DataSource
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres import upgrade
from hostctl.transitions.begin import Begun, replace_data


def begin(app: App, who: str, origin: str, host: Host) -> Begun:
    """Begin an upgrade to the newest version that is installed. Returns the transition. Raises HostError."""
    versions = upgrade.plan(app)
    data: DataSource = {
        "point": None,
        "at": time.time(),
        "upgrade": {"from": int(versions["from"]), "to": int(versions["to"])},
    }
    return replace_data(app, "upgrade", data, who, origin, 0.0, host)
