"""deploy run: runs a program with the files and environment of the live release."""

from __future__ import annotations

import click

from homeport.options.options import Options, common
from homeport.remote.interactive import AS_TYPED

EPILOG = """Examples:

  deploy run bin/shop eval "Shop.Release.seed()"

  deploy run bash                          (a shell as the app's user, with the app's restrictions)

  deploy run --detach bin/import nightly   (runs on in the background; its output: deploy logs run)

  cat prices.csv | deploy run bin/shop eval "Shop.Prices.import(:stdio)"
"""


@click.command(epilog=EPILOG, context_settings=AS_TYPED)
@click.option("--detach", is_flag=True, help="Do not wait until it ends; its output goes to the journal.")
@click.argument("words", nargs=-1, required=True, metavar="CMD...", type=click.UNPROCESSED)
@common
def command(options: Options, detach: bool, words: tuple[str, ...]) -> None:
    """Run a program once on the host, with the files and environment of the live release.

    It runs as the app's user, in a unit of its own with the app's limits, on this terminal. The exit status is that of
    CMD. Options come before CMD. A path with a slash is relative to the release.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    run(begin(options), "run", words=words, detach=detach)
