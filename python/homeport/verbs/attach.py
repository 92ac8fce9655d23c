"""deploy attach: follow the running transition, or show the last one."""

from __future__ import annotations

import click

from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy attach      (after the connection was lost)
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(options: Options, as_json: bool) -> None:
    """Follow the transition that runs on the host, or show the last one.

    The exit status is that of the transition's own verb, such as push or rollback.
    """
    from homeport.deployment import transition
    from homeport.remote.session import begin

    transition.attach(begin(options), as_json=as_json)
