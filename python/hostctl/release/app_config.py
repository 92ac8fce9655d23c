"""app.json: what provisioning wrote down about the app."""

from __future__ import annotations

from hostctl.common.documents import Settings
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, read_json
from hostctl.common.names import matches
from hostctl.core.paths import App


def load(app: App) -> Json:
    """app.json, checked.

    Raises HostError (usage) when the app is not provisioned or the file is not as it should be.
    """
    app.require()
    found = read_json(app.config)
    if (
        found is None
        or found.get("app") != app.name
        or not matches("app", found.get("user"))
        or found["user"] == "root"
    ):
        raise HostError("app.json cannot be read, or is not this app's", str(app.config), "deploy provision", USAGE)
    found.setdefault("deployers", [])
    found.setdefault("domains", [])
    return found


def domains(app: App, settings: Settings) -> list[str]:
    """The domains that the edge answers now; those of the release's own settings where app.json has none."""
    return list(load(app)["domains"]) or list(settings["domains"])
