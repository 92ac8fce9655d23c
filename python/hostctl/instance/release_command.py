"""Runs a program of a release once, such as its migrations, as the app's user with the restrictions of the instance.

`what` names the purpose of the program in its unit and its files: "migrate", or "settings".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hostctl.common.files import unlink
from hostctl.journal.engine import Work
from hostctl.release import confinement, environment, records
from hostctl.release.app_config import load as load_config


def unit(work: Work, what: str) -> str:
    """The transient unit in which the program runs."""
    return work.app.helper_unit(f"{what}-{work.release}")


def run(work: Work, what: str, argv: Sequence[str], log: Path, longest: float) -> int:
    """Run a program for at most `longest` seconds, its output into `log`, which root alone can read.

    It has the release's environment, with the values of `write_environment`. Returns its exit status, that of a killed
    program after `longest`. Raises HostError if the app has no unit, or one of another user.
    """
    app, instance = work.app, work.app.unit(work.release)
    shared = confinement.require(work.host.systemd.text(instance), work.release, load_config(app)["user"], instance)
    properties = confinement.without(shared, "EnvironmentFile=", f"LoadCredentialEncrypted={environment.CREDENTIAL}:")
    own = _own_environment(work, what)
    sealed = own if own.exists() else app.record(work.release) / environment.SEALED
    properties += [
        environment.credential_setting(sealed),
        f"EnvironmentFile=-{app.record(work.release) / environment.INSTANCE}",
    ]
    limits = [f"RuntimeMaxSec={longest:g}", "TimeoutStopSec=5"]
    with open(log, "wb", opener=_private) as output:
        command = environment.launch_command(argv)
        return work.host.systemd.foreground(unit(work, what), command, [*properties, *limits], output)


def write_environment(work: Work, what: str, values: Mapping[str, str]) -> None:
    """Add values to the release's environment for the program, until `forget`. Raises HostError."""
    environment.seal(_own_environment(work, what), {**records.environment(work.app, work.release), **values})


def forget(work: Work, what: str) -> None:
    """Remove the values of `write_environment`: the program gets the release's environment again."""
    unlink(_own_environment(work, what))


def _own_environment(work: Work, what: str) -> Path:
    return work.app.record(work.release) / f"{what}.cred"


def stop(work: Work, what: str) -> None:
    """End the program, if it still runs."""
    work.host.systemd.stop(unit(work, what))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
