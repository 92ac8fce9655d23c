"""A database on somebody else's server: what can be told of it, and that its backups are its provider's."""

from __future__ import annotations

from hostctl import databases
from hostctl.edges import Edges
from hostctl.files import Json, read_json
from hostctl.layout import App
from hostctl.lineage import Epoch


def summary(app: App, _: Edges) -> Json:
    """Whose it is. Nothing of it is on this host."""
    told = read_json(app.database) or {}
    return {"engine": "external", "url": told.get("url"), "pool": told.get("pool"), "disk": None, "backup": None}


def listing(app: App) -> Json:
    """Raises HostError (usage), as everything below."""
    raise databases.no_backup(app)


def run(app: App, _: Edges) -> None:
    raise databases.no_backup(app)


def drill(app: App, _: Edges) -> Json:
    raise databases.no_backup(app)


def takeover(app: App, _: Edges) -> Epoch:
    raise databases.no_backup(app)


def check(app: App) -> Json:
    raise databases.no_backup(app)


def verb(app: App, action: str, edges: Edges, allow_empty: bool = False) -> Json:
    """Nothing streams from here. Raises HostError (usage), but for a start: there is nothing to do then."""
    if action == "start":
        return {"changed": False}
    raise databases.no_backup(app)
