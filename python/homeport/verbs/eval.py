"""deploy eval: an expression in a system of its own."""

from __future__ import annotations

import click

from homeport.options.options import Options, common
from homeport.remote.interactive import an_expression

EPILOG = """Examples:

  deploy eval 'IO.puts(System.version())'

  deploy eval 'Shop.Release.seed()'

  deploy eval - < mend_orders.exs
"""


@click.command(epilog=EPILOG)
@click.argument("expression", metavar="EXPR", callback=an_expression)
@common
def command(options: Options, expression: str) -> None:
    """Evaluate an Elixir expression beside the live instance: in a system of its own, in which the app is not started.

    Its files and its configuration are there, as with `bin/APP eval`. EXPR is `-` to read it from standard input,
    which is the way for one that holds a secret. Exits with 1 if it fails.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    run(begin(options), "eval", expression=expression)
