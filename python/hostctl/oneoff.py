"""A program beside the live instance: the same release, user, walls and limits; nothing of what only one may have."""

from __future__ import annotations

from pathlib import Path

from hostctl import confinement, envfile, records
from hostctl.edges import Edges
from hostctl.errors import FAILED, HostError
from hostctl.files import write_atomic
from hostctl.layout import App

# systemd removes a unit's runtime directory when it ends: never that of the instance
OWN = ("RuntimeDirectory=", "RuntimeDirectoryMode=")
# an app that is started beside the instance does not serve
UNSET = "PHX_SERVER"


def release(app: App) -> str:
    """The live release, whose environment a program beside it has. Raises HostError when nothing is live."""
    found = app.live()
    if found is None or not records.environment(app, found):
        raise HostError(f"nothing of {app.name} is live", str(app.live_link), "deploy push", FAILED)
    return found


def write_environment(app: App, path: Path, name: str, more: dict[str, str]) -> None:
    """The variables of the program `name` that differ from the instance's. Raises HostError for an impossible value."""
    given = {"PORT": "0", "RELEASE_TMP": f"/run/{_runtime(app, name)}", **more}
    write_atomic(path, envfile.render(given).encode(), durable=False)


def properties(app: App, live: str, name: str, environment: Path, edges: Edges) -> list[str]:
    """The settings of its unit: those of the instance, and over them the program's own. `name` is part of a path.

    `environment` is what write_environment wrote; systemd reads it when the program starts.
    """
    shared = confinement.properties(edges.systemd.text(app.unit(live)), live)
    own = [f"RuntimeDirectory={_runtime(app, name)}", "RuntimeDirectoryMode=0700"]
    # else systemd would take the arguments for it, and write them into the journal
    own.append(f"Description={app.name}, beside release {live}")
    own += [f"EnvironmentFile={environment}", f"UnsetEnvironment={UNSET}", "TimeoutStopSec=10"]
    return [line for line in shared if not line.startswith(OWN)] + own


def _runtime(app: App, name: str) -> str:
    return f"homeport-{app.name}/{name}"
