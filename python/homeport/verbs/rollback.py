"""deploy rollback: makes an earlier release live again."""

from __future__ import annotations

import click

from homeport.options.options import Options, a_release, common, lock_wait

EPILOG = """Examples:

  deploy rollback                     (the last release that was live and healthy)

  deploy rollback 20261121T0413

  deploy rollback 3f2a9c1             (a git commit)

  deploy rollback --with-data         (also the data from before the last push)
"""


@click.command(epilog=EPILOG)
@click.argument("release", default="", callback=a_release)
@click.option("--with-data", is_flag=True, help="Restore the data from before the last push as well.")
@click.option("--force", is_flag=True, help="Allow older code to run on a newer database schema.")
@click.option("--yes", is_flag=True, help="With --with-data: do not ask.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(
    options: Options, release: str, with_data: bool, force: bool, yes: bool, lock_wait: int, as_json: bool
) -> None:
    """Make an earlier release live again by the steps of a push, without a build and an upload.

    RELEASE is a release id, the unambiguous beginning of one, or a git commit. The database stays as it is: a rollback
    past non-additive migrations is refused. --with-data also restores the restore point from before the last push; the
    writes that this loses are shown first, and the replaced data becomes kept data on the host.
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
