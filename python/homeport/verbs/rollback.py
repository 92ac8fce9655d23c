"""deploy rollback: an earlier release goes live again."""

from __future__ import annotations

import click

from homeport.options import Options, a_release, common, lock_wait

EPILOG = """Examples:

  deploy rollback                     (the last release that was live and healthy)

  deploy rollback 20261121T0413

  deploy rollback 3f2a9c1             (a git commit)
"""


@click.command(epilog=EPILOG)
@click.argument("release", default="", callback=a_release)
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(options: Options, release: str, lock_wait: int, as_json: bool) -> None:
    """Make an earlier release live again, through the same gates, with nothing built and nothing sent.

    RELEASE is a release id, the unambiguous beginning of one, or a git commit.
    """
    from homeport import transition
    from homeport.session import begin

    transition.rollback(begin(options), release, lock_wait, as_json=as_json)
