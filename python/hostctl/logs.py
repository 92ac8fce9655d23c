"""What the app writes, from the journal."""

from __future__ import annotations

import os

from hostctl import choose, prune
from hostctl.errors import USAGE, HostError
from hostctl.layout import App


def arguments(app: App, lines: int, follow: bool, release: str | None) -> list[str]:
    """The journalctl command: instances and migrations of one release, or of all."""
    which = release or "*"
    # a migration's unit begins with the year, so that no app whose name begins alike is met
    migrations = app.helper_unit(f"migrate-{release or '[0-9]*'}")
    units = ["-u", f"{app.name}@{which}.service", "-u", migrations]
    # no pager: it would run as root and offers a shell
    return [
        "journalctl",
        "--no-pager",
        "-q",
        "-o",
        "short-iso",
        "-n",
        str(lines),
        *(["-f"] if follow else []),
        *units,
    ]


def run(app: App, lines: int, follow: bool, wanted: str | None) -> None:
    """Become journalctl. Raises HostError (usage) when no single release is meant."""
    release = None
    if wanted is not None:
        found = choose.matching(prune.see(app, None), wanted)
        if len(found) != 1:
            raise HostError(f"{len(found)} releases match {wanted}", str(app.records), "deploy releases", USAGE)
        release = found[0].release
    command = arguments(app, lines, follow, release)
    os.execv("/usr/bin/journalctl", command)  # noqa: S606 - no shell
