"""deploy push: builds a release, uploads what changed, and makes it live."""

from __future__ import annotations

from pathlib import Path

import click

from homeport.options.options import Options, common, lock_wait

EPILOG = """Examples:

  deploy push

  deploy push --plan

  deploy push --artifact _build/prod/rel/hello     (a release that CI has built)

  deploy -d sandbox push --json
"""


@click.command(epilog=EPILOG)
@click.option(
    "--artifact",
    type=click.Path(exists=True, path_type=Path),
    help="A release that is built already: a directory or a tar file.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Show what would happen, and change nothing.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(options: Options, artifact: Path | None, plan_only: bool, lock_wait: int, as_json: bool) -> None:
    """Build a release, upload what changed, and make it live without losing a request.

    After every failure the previous release serves. Exit status: 0 live, or live already; 1 failed and nothing changed;
    2 usage or configuration; 3 failed, the previous release is serving; 4 somebody else holds the lock; 5 a person must
    look.
    """
    from homeport.deployment import transition
    from homeport.remote.session import begin

    session = begin(options)
    if plan_only:
        transition.plan(session, artifact, as_json=as_json)
    else:
        transition.push(session, artifact, lock_wait, as_json=as_json)
