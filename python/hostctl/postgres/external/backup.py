"""A database on somebody else's server: what can be told of it, and that its backups are its provider's."""

from __future__ import annotations

from hostctl.backup import settings
from hostctl.backup.epochs import Epoch
from hostctl.common.documents import DrillResult
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App
from hostctl.host.host import Host


def summary(app: App, _: Host) -> Json:
    """Whose it is. Nothing of it is on this host."""
    told = read_json(app.database) or {}
    return {"engine": "external", "url": told.get("url"), "pool": told.get("pool"), "disk": None, "backup": None}


def listing(app: App) -> Json:
    """Raises HostError (usage), as everything below."""
    raise settings.no_backup_error(app)


def run(app: App, _: Host) -> None:
    raise settings.no_backup_error(app)


def drill(app: App, _: Host) -> DrillResult:
    raise settings.no_backup_error(app)


def takeover(app: App, _: Host) -> Epoch:
    raise settings.no_backup_error(app)


def check(app: App) -> Json:
    raise settings.no_backup_error(app)


def run_action(app: App, action: str, host: Host, allow_empty: bool = False) -> Json:
    """Nothing streams from here. Raises HostError (usage), but for a start: there is nothing to do then."""
    if action == "start":
        return {"changed": False}
    raise settings.no_backup_error(app)
