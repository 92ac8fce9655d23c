"""deploy run: one program beside the live release."""

from __future__ import annotations

import click

from homeport.options.options import Options, common
from homeport.remote.interactive import AS_TYPED

EPILOG = """Examples:

  deploy run bin/shop eval "Shop.Release.seed()"

  deploy run bash                          (a shell as the app's user, behind the app's walls)

  deploy run --detach bin/import nightly   (it goes on when this ends; deploy logs run shows what it writes)

  cat prices.csv | deploy run bin/shop eval "Shop.Prices.import(:stdio)"
"""


@click.command(epilog=EPILOG, context_settings=AS_TYPED)
@click.option("--detach", is_flag=True, help="Do not wait for its end; what it writes goes to the journal.")
@click.argument("words", nargs=-1, required=True, metavar="CMD...", type=click.UNPROCESSED)
@common
def command(options: Options, detach: bool, words: tuple[str, ...]) -> None:
    """Run a program once on the host, with the live release's files and environment.

    As the app's user, in a unit of its own with the app's limits, and with this terminal. Exits as CMD does. Options
    come before CMD. A path with a slash is looked for in the release.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    run(begin(options), "run", words=words, detach=detach)
