"""deploy rpc: evaluates an expression in the live instance."""

from __future__ import annotations

import click

from homeport.options.options import Options, common
from homeport.remote.interactive import an_expression

EPILOG = """Examples:

  deploy rpc 'IO.inspect(Supervisor.count_children(Shop.Supervisor))'

  deploy rpc 'IO.puts(Shop.Orders.open_count())'

  deploy rpc - < who_is_here.exs
"""


@click.command(epilog=EPILOG)
@click.argument("expression", metavar="EXPR", callback=an_expression)
@common
def command(options: Options, expression: str) -> None:
    """Evaluate an Elixir expression in the live instance, and show its output.

    Works as `bin/APP rpc`, but starts no second VM. With `-` as EXPR the expression is read from standard input: use
    that if it contains a secret. Exit status 1 if it fails; Ctrl-C ends it.
    """
    from homeport.remote.interactive import run
    from homeport.remote.session import begin

    run(begin(options), "rpc", expression=expression)
