"""The start of an upgrade of PostgreSQL to a newer major version."""

from __future__ import annotations

import time

from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres import upgrade
from hostctl.transitions import begin as transition


def begin(app: App, who: str, origin: str, host: Host) -> Json:
    """Begin an upgrade to the newest version that is installed. Returns the transition. Raises HostError."""
    told = upgrade.plan(app)
    data = {"point": None, "at": time.time(), "upgrade": {"from": int(told["from"]), "to": int(told["to"])}}
    return transition.replace_data(app, "upgrade", data, who, origin, 0.0, host)
