"""deploy console: IEx in the live instance."""

from __future__ import annotations

import sys

import click

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy console     (Ctrl-C twice leaves the console; the app runs on)
"""


@click.command(epilog=EPILOG)
@common
def command(options: Options) -> None:
    """Open IEx in the live instance: expressions are evaluated in the running app.

    Ctrl-C twice, or Ctrl-\\, leaves the console, and the app runs on; `System.stop()` would restart the app.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fix = "run it in a terminal, or evaluate one expression: deploy rpc EXPR"
        raise HomeportError("a console needs a terminal", "standard input", fix, ExitCode.USAGE)
    run(begin(options), "console")
