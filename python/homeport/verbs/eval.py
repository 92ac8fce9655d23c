"""deploy eval: evaluates an expression in a VM of its own."""

from __future__ import annotations

import click

from homeport.options.options import Options, common
from homeport.remote.interactive import an_expression

EPILOG = """Examples:

  deploy eval 'IO.puts(System.version())'

  deploy eval 'Shop.Release.seed()'

  deploy eval - < repair_orders.exs
"""


@click.command(epilog=EPILOG)
@click.argument("expression", metavar="EXPR", callback=an_expression)
@common
def command(options: Options, expression: str) -> None:
    """Evaluate an Elixir expression beside the live instance, in a VM of its own in which the app is not started.

    The expression has the files and the configuration of the release, as with `bin/APP eval`. With `-` as EXPR it is
    read from standard input: use that if it contains a secret. Exit status 1 if it fails.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    run(begin(options), "eval", expression=expression)
