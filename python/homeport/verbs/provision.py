"""deploy provision: configures the host by the Ansible roles."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, allow_empty, common

EPILOG = """Examples:

  deploy provision

  deploy -d production provision --json

  deploy provision --allow-empty          (S3 cannot be reached, and the app must run without data that it may hold)
"""


@click.command(epilog=EPILOG)
@allow_empty
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(options: Options, allow_empty: bool, as_json: bool) -> None:
    """Configure the host by the Ansible roles, as root or by sudo. A second run changes nothing."""
    from homeport.deployment import provision
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    changed = provision.provision(
        session, Screen(quiet=options.quiet, verbose=options.verbose), allow_empty=allow_empty
    )
    if as_json:
        print(json.dumps({"result": "changed" if changed else "unchanged", "changed": changed}))
