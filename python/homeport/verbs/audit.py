"""deploy audit: who changed what, and when."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, as_json, common

EPILOG = """Examples:

  deploy audit

  deploy audit -n 100 --json
"""


@click.command(epilog=EPILOG)
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many lines.")
@as_json
@common
def command(options: Options, count: int, as_json: bool) -> None:
    """Show who changed what, when, with which result, and the names of the variables that changed.

    The audit is a file on the host.
    """
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin
    from homeport.screen import env_changes

    entries = with_iso_times(begin(options).hostctl.call("audit", "-n", str(count))["audit"])
    if as_json:
        print(json.dumps(entries))
        return
    for entry in entries:
        line = "  ".join(str(entry.get(key) or "-") for key in ("at", "who", "from", "verb", "release", "result"))
        changes = env_changes.summary(entry.get("env_changes"))
        print(f"{line}  env: {changes}" if changes else line)
