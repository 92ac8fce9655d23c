"""A program beside the live instance: the same release, user, walls and limits; nothing of what only one may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hostctl.common.errors import FAILED, HostError
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.release import app_config, confinement, environment, records

# systemd removes a unit's runtime directory when it ends: never that of the instance; and its variables are its own
OWN = ("RuntimeDirectory=", "RuntimeDirectoryMode=", "EnvironmentFile=")
# an app that is started beside the instance does not serve
UNSET = "PHX_SERVER"


def live_release(app: App) -> str:
    """The live release, whose environment a program beside it has. Raises HostError when nothing is live."""
    found = app.live()
    if found is None or not records.environment(app, found):
        raise HostError(f"nothing of {app.name} is live", str(app.live_link), "deploy push", FAILED)
    return found


def write_environment(app: App, live: str, path: Path, name: str, more: Mapping[str, str]) -> None:
    """Seal the variables of the program `name`: the live release's, and over them `more`. Raises HostError."""
    values = {**records.environment(app, live), "PORT": "0", "RELEASE_TMP": f"/run/{_runtime(app, name)}", **more}
    values.pop(UNSET, None)
    environment.seal(path, values)


def command(argv: Sequence[str]) -> list[str]:
    """The program with the variables of `write_environment`. Where argv has a dollar, it is doubled."""
    return environment.launch_command(argv)


def properties(app: App, live: str, name: str, path: Path, host: Host) -> list[str]:
    """The settings of its unit: those of the instance, and over them the program's own. `name` is part of a path.

    `path` is what write_environment wrote; systemd reads it when the program starts. Raises HostError if the instance
    has no unit, or not one of the app's user.
    """
    unit = app.unit(live)
    shared = confinement.require(host.systemd.text(unit), live, app_config.load(app)["user"], unit)
    shared = confinement.without(shared, *OWN, f"LoadCredentialEncrypted={environment.CREDENTIAL}:")
    own = [f"RuntimeDirectory={_runtime(app, name)}", "RuntimeDirectoryMode=0700", environment.credential_setting(path)]
    # else systemd would take the arguments for it, and write them into the journal
    own.append(f"Description={app.name}, beside release {live}")
    return [*shared, *own, "TimeoutStopSec=10"]


def walls(app: App, name: str, path: Path, host: Host) -> list[str]:
    """The settings of the unit of a program that is not the release's: the app's user in the instance's confinement.

    It has the variables that `environment.seal` wrote to `path`, no secret of the app's, and writes only to a /tmp of
    its own. Raises HostError if the app has no unit, or not one of its own user.
    """
    unit = app.unit(app.live() or "none")
    shared = confinement.require(host.systemd.text(unit), "none", app_config.load(app)["user"], unit)
    shared = confinement.without(shared, *OWN, "LoadCredential", "WorkingDirectory=", "StateDirectory")
    own = [environment.credential_setting(path), f"Description={app.name}, {name}"]
    return [*shared, *own, "TimeoutStopSec=10"]


def _runtime(app: App, name: str) -> str:
    return f"homeport-{app.name}/{name}"
