"""deploy env: the variables of the app."""

from __future__ import annotations

import click

from homeport.options.options import Options, common, lock_wait

EPILOG = """Examples:

  deploy env push --plan                        (which variables and settings are others, by name)

  deploy env push

  deploy secrets rotate SECRET_KEY_BASE && deploy env push

  deploy rollback                               (the variables of before)
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Give the app changed variables or rotated secrets, without a build."""


@command.command(epilog=EPILOG)
@click.option("--plan", "plan_only", is_flag=True, help="Show what would change, by name, and do nothing.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def push(options: Options, plan_only: bool, lock_wait: int, as_json: bool) -> None:
    """Start what is live once more, with the variables, secrets and settings of now, without losing a request.

    It is a release of its own: it goes through the gates of a push, and a rollback takes it back. A secret without a
    value here keeps the one it has. Where nothing differs, nothing is done, and the exit status is 0; otherwise it is
    that of a push.
    """
    from homeport.deployment import transition
    from homeport.remote.session import begin

    session = begin(options)
    if plan_only:
        transition.plan_environment(session, as_json=as_json)
    else:
        transition.push_environment(session, lock_wait, as_json=as_json)
