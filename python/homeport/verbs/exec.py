"""deploy exec: runs a program with the private /tmp of the live instance."""

from __future__ import annotations

import click

from homeport.options.options import Options, common
from homeport.remote.interactive import AS_TYPED

EPILOG = """Examples:

  deploy exec ls -l /tmp

  deploy exec bash
"""


@click.command(epilog=EPILOG, context_settings=AS_TYPED)
@click.argument("words", nargs=-1, required=True, metavar="CMD...", type=click.UNPROCESSED)
@common
def command(options: Options, words: tuple[str, ...]) -> None:
    """Run a program as `deploy run` does, but with the private /tmp of the live instance.

    The exit status is that of CMD. Options come before CMD.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    run(begin(options), "exec", words=words)
