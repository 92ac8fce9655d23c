"""deploy rollback: an earlier release goes live again."""

from __future__ import annotations

import click

from homeport.options.options import Options, a_release, common, lock_wait

EPILOG = """Examples:

  deploy rollback                     (the last release that was live and healthy)

  deploy rollback 20261121T0413

  deploy rollback 3f2a9c1             (a git commit)

  deploy rollback --with-data         (and the data of before the last push)
"""


@click.command(epilog=EPILOG)
@click.argument("release", default="", callback=a_release)
@click.option("--with-data", is_flag=True, help="Go back to the data of before the last push as well.")
@click.option("--force", is_flag=True, help="Let older code meet a database that it may not know.")
@click.option("--yes", is_flag=True, help="With --with-data: do not ask.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(
    options: Options, release: str, with_data: bool, force: bool, yes: bool, lock_wait: int, as_json: bool
) -> None:
    """Make an earlier release live again, through the same gates, with nothing built and nothing sent.

    RELEASE is a release id, the unambiguous beginning of one, or a git commit. The database stays as it is: a rollback
    past migrations that did more than add is refused. With --with-data the database goes back too, to the restore point
    of before the last push; what that gives up is told first, and kept aside on the host.
    """
    from homeport.deployment import transition
    from homeport.remote.session import begin

    if with_data and force:
        raise click.UsageError("--with-data needs no --force.")
    if yes and not with_data:
        raise click.UsageError("--yes is for --with-data.")
    session = begin(options)
    if with_data:
        transition.rollback_with_data(session, release, lock_wait, yes=yes, as_json=as_json)
    else:
        transition.rollback(session, release, lock_wait, force=force, as_json=as_json)
