"""deploy doctor: everything that commonly goes wrong, and what mends it."""

from __future__ import annotations

import json
import sys

import click

from homeport.core.errors import ExitCode
from homeport.options.options import Options, as_json, common
from hostctl.common.documents import Json
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy doctor

  deploy -d production doctor --quiet      (for a monitor: only what is wrong)

  deploy doctor --json | jq '.checks[] | select(.state == "error")'
"""


CODES = {"warning": ExitCode.FAILED, "error": ExitCode.PERSON}


@click.command(epilog=EPILOG)
@as_json
@common
def command(options: Options, as_json: bool) -> None:
    """Look at everything that commonly goes wrong: the login, DNS, ports, certificates, the host, the backup.

    Changes nothing, and looks at all it can even when some of it fails. Exit status: 0 all is well, 1 something
    deserves a look, 5 something is wrong.
    """
    from homeport.doctor.examination import examine, worst
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen = Screen(quiet=options.quiet or as_json)
    screen.begin("doctor")
    found = examine(session, screen.note)
    screen.end("doctor", summary(found))
    if as_json:
        known = {"app": session.app, "destination": session.loaded.destination, "host": session.target.host}
        print(json.dumps({**known, "worst": worst(found), "checks": found}))
    else:
        for line in lines([one for one in found if not options.quiet or one["state"] in CODES]):
            print(line)
    sys.exit(CODES.get(worst(found), ExitCode.DONE))


def summary(found: list[Json]) -> str:
    """How many findings of each kind that matters."""
    counts = [(sum(one["state"] == state for one in found), state) for state in ("error", "warning")]
    told = ", ".join(f"{count} {state}{'s' if count > 1 else ''}" for count, state in counts if count)
    return f"{len(found)} looked at: {told or 'all is well'}"


def lines(found: list[Json]) -> list[str]:
    """A line for each finding, and below it what mends it."""
    return columns([row for one in found for row in _rows(one)])


def _rows(one: Json) -> list[tuple[str, str, str]]:
    said = (f"{_SIGNS[one['state']]:<7}", one["check"], one["says"])
    return [said, ("", "", f"fix: {one['fix']}")] if one["fix"] else [said]


_SIGNS = {"ok": "ok", "skipped": "-", "warning": "WARNING", "error": "ERROR"}
