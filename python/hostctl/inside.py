"""A program of a release, run once as the app's user in the instance's own confinement: migrations, settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hostctl import confinement
from hostctl.config import load as load_config
from hostctl.transition import Work


def unit(work: Work, what: str) -> str:
    """The transient unit in which a program of the release at work runs."""
    return work.app.helper_unit(f"{what}-{work.release}")


def run(work: Work, what: str, argv: Sequence[str], log: Path, longest: float) -> int:
    """Run a program for at most `longest` seconds, its output into `log`, which root alone can read.

    It has the release's environment, and over it what the file WHAT.env beside that holds, where there is one. Returns
    its exit status; one that took too long was killed.
    """
    app = work.app
    properties = confinement.properties(work.edges.systemd.text(app.unit(work.release)), work.release)
    properties = properties or confinement.minimal(load_config(app)["user"], app.record(work.release) / "env")
    properties.append(f"EnvironmentFile=-{app.record(work.release) / f'{what}.env'}")
    limits = [f"RuntimeMaxSec={longest:g}", "TimeoutStopSec=5"]
    with open(log, "wb", opener=_private) as output:
        return work.edges.systemd.foreground(unit(work, what), argv, [*properties, *limits], output)


def stop(work: Work, what: str) -> None:
    """End the program, if it still runs."""
    work.edges.systemd.stop(unit(work, what))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
