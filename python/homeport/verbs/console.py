"""deploy console: IEx in the live instance."""

from __future__ import annotations

import sys

import click

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy console     (Ctrl-C twice leaves it, and nothing but it)
"""


@click.command(epilog=EPILOG)
@common
def command(options: Options) -> None:
    """Open IEx in the live instance: what is typed happens in the app that serves, with all that it holds.

    Ctrl-C twice, or Ctrl-\\, leaves the console alone; `System.stop()` would restart the app.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fix = "run it in a terminal; deploy rpc EXPR asks one thing"
        raise HomeportError("a console needs a terminal", "standard input", fix, ExitCode.USAGE)
    run(begin(options), "console")
