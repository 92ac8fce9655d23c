"""`hostctl APP backup` and `stream` with a database on a server of a provider, which makes the backups."""

from __future__ import annotations

from hostctl.backup import settings
from hostctl.backup.epochs import Epoch
from hostctl.common.documents import DrillResult
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App
from hostctl.host.host import Host


def summary(app: App, _: Host) -> Json:
    """The settings of the database; none of its data is on this host."""
    config = read_json(app.database) or {}
    return {"engine": "external", "url": config.get("url"), "pool": config.get("pool"), "disk": None, "backup": None}


def listing(app: App) -> Json:
    """Raises HostError (usage), as every function below."""
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
    """Do nothing for a start. Raises HostError (usage) for any other action."""
    if action == "start":
        return {"changed": False}
    raise settings.no_backup_error(app)
