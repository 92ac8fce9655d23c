"""app.json: the settings of the app that provisioning writes."""

from __future__ import annotations

from hostctl.common.documents import Settings
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, read_json
from hostctl.common.names import matches
from hostctl.core.paths import App


def load(app: App) -> Json:
    """The content of app.json. Raises HostError (usage) when the app is not provisioned or the file is invalid."""
    app.require()
    config = read_json(app.config)
    if config is None or config.get("app") != app.name or not _is_app_user(config.get("user")):
        raise HostError("app.json cannot be read, or is not this app's", str(app.config), "deploy provision", USAGE)
    config.setdefault("deployers", [])
    config.setdefault("domains", [])
    return config


def _is_app_user(name: object) -> bool:
    return matches("app", name) and name != "root"


def domains(app: App, settings: Settings) -> list[str]:
    """The domains that the edge answers now; those of the release's own settings where app.json has none."""
    return list(load(app)["domains"]) or list(settings["domains"])
