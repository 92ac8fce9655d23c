"""deploy exec: one program where the live instance is."""

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
    """Run a program where the live instance is: as `deploy run` does, and with its /tmp, which no other process sees.

    Exits as CMD does. Options come before CMD.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    run(begin(options), "exec", words=words)
