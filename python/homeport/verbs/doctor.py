"""deploy doctor: checks for common faults, and prints the fix of each."""

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

  deploy -d production doctor --quiet      (for a monitor: only warnings and errors)

  deploy doctor --json | jq '.checks[] | select(.state == "error")'
"""


CODES = {"warning": ExitCode.FAILED, "error": ExitCode.PERSON}


@click.command(epilog=EPILOG)
@as_json
@common
def command(options: Options, as_json: bool) -> None:
    """Check the login, DNS, ports, certificates, the host and the backup for common faults, and print each fix.

    Changes nothing. A check that fails does not stop the others. Exit status: 0 no fault; 1 warnings; 5 errors.
    """
    from homeport.doctor.runner import run_checks, worst_state
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen = Screen(quiet=options.quiet or as_json)
    screen.begin("doctor")
    findings = run_checks(session, screen.note)
    screen.end("doctor", summary(findings))
    if as_json:
        subject = {"app": session.app, "destination": session.loaded.destination, "host": session.target.host}
        print(json.dumps({**subject, "worst": worst_state(findings), "checks": findings}))
    else:
        for line in lines([finding for finding in findings if not options.quiet or finding["state"] in CODES]):
            print(line)
    sys.exit(CODES.get(worst_state(findings), ExitCode.DONE))


def summary(findings: list[Json]) -> str:
    """The number of findings, and of the errors and warnings among them."""
    counts = [(sum(finding["state"] == state for finding in findings), state) for state in ("error", "warning")]
    faults = ", ".join(f"{count} {state}{'s' if count > 1 else ''}" for count, state in counts if count)
    return f"{len(findings)} checked: {faults or 'all is well'}"


def lines(findings: list[Json]) -> list[str]:
    """A line for each finding, and below it its fix."""
    return columns([row for finding in findings for row in _rows(finding)])


def _rows(finding: Json) -> list[tuple[str, str, str]]:
    row = (f"{_SIGNS[finding['state']]:<7}", finding["check"], finding["says"])
    return [row, ("", "", f"fix: {finding['fix']}")] if finding["fix"] else [row]


_SIGNS = {"ok": "ok", "skipped": "-", "warning": "WARNING", "error": "ERROR"}
