"""A program of a release, run once as the app's user in the instance's own confinement: migrations, settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hostctl.common.files import unlink
from hostctl.journal.engine import Work
from hostctl.release import confinement, environment, records
from hostctl.release.app_config import load as load_config


def unit(work: Work, what: str) -> str:
    """The transient unit in which a program of the release at work runs."""
    return work.app.helper_unit(f"{what}-{work.release}")


def run(work: Work, what: str, argv: Sequence[str], log: Path, longest: float) -> int:
    """Run a program for at most `longest` seconds, its output into `log`, which root alone can read.

    It has the release's environment, or what `write_environment` made of it. Returns its exit status; one that took too
    long was killed. Raises HostError if the app has no unit, or not one of its own user.
    """
    app, own, instance = work.app, _own(work, what), work.app.unit(work.release)
    shared = confinement.require(work.host.systemd.text(instance), work.release, load_config(app)["user"], instance)
    properties = confinement.without(shared, "EnvironmentFile=", f"LoadCredentialEncrypted={environment.CREDENTIAL}:")
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
    """What the program `what` is to have over the release's environment, until `forget`. Raises HostError."""
    environment.seal(_own(work, what), {**records.environment(work.app, work.release), **values})


def forget(work: Work, what: str) -> None:
    """The program has the release's environment again."""
    unlink(_own(work, what))


def _own(work: Work, what: str) -> Path:
    return work.app.record(work.release) / f"{what}.cred"


def stop(work: Work, what: str) -> None:
    """End the program, if it still runs."""
    work.host.systemd.stop(unit(work, what))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
