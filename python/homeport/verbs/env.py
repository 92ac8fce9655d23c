"""deploy env: gives the live release changed variables and secrets."""

from __future__ import annotations

import click

from homeport.options.options import Options, common, lock_wait

EPILOG = """Examples:

  deploy env push --plan                        (the names of the variables and settings that would change)

  deploy env push

  deploy secrets rotate SECRET_KEY_BASE && deploy env push

  deploy rollback                               (back to the earlier variables)
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Give the app changed variables or rotated secrets, without a build."""


@command.command(epilog=EPILOG)
@click.option("--plan", "plan_only", is_flag=True, help="Show the names of what would change, and change nothing.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def push(options: Options, plan_only: bool, lock_wait: int, as_json: bool) -> None:
    """Start the live code again with the current variables, secrets and settings, without losing a request.

    This makes a new release of the same code: it goes through the steps of a push, and a rollback undoes it. A secret
    without a value on this machine keeps the value on the host. Exit status: 0 if nothing differs, otherwise as of a
    push.
    """
    from homeport.deployment import transition
    from homeport.remote.session import begin

    session = begin(options)
    if plan_only:
        transition.plan_environment(session, as_json=as_json)
    else:
        transition.push_environment(session, lock_wait, as_json=as_json)
