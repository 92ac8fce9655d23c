"""deploy config: the effective configuration and where each value comes from."""

from __future__ import annotations

import json
import sys

import click

from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy config

  deploy -d sandbox config --explain

  deploy config backup.interval

  deploy config --json | jq .domains
"""


@click.command("config", epilog=EPILOG)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--explain", is_flag=True, help="Show the file and line that set each value.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; durations in seconds, sizes in bytes.")
@common
def command(options: Options, keys: tuple[str, ...], explain: bool, as_json: bool) -> None:
    """Show the effective configuration; secrets by name only. Exit status 2 if the configuration has a mistake.

    With KEY, such as backup.interval or health, show only these keys, each with its description.
    """
    from homeport.config import show
    from homeport.config.layers import load

    loaded = load(options.config, options.destination)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if keys:
        rows = show.describe(loaded, keys)
        print(json.dumps(rows, indent=2) if as_json else show.as_paragraphs(rows))
    elif as_json:
        print(json.dumps(show.rows(loaded) if explain else show.document(loaded), indent=2))
    else:
        print(show.as_table(loaded) if explain else show.as_yaml(loaded), end="\n" if explain else "")
