"""deploy observer: connects a local Observer to the live instance."""

from __future__ import annotations

import sys

import click

from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy observer         (and in another terminal, the command that it prints)

  deploy observer 15000
"""


@click.command(epilog=EPILOG)
@click.argument("port", required=False, default=14370, type=click.IntRange(1024, 65535))
@common
def command(options: Options, port: int) -> None:
    """Connect the live instance to a node on this machine, for Observer and similar tools, until Ctrl-C.

    This command prints the command that starts the local node, which listens on PORT of the loopback network (default
    14370). The instance connects to it through this command's SSH connection; the host opens no port to the outside.
    The release must contain :runtime_tools (extra_applications in mix.exs), as Phoenix apps do.
    """
    from homeport.remote import observer
    from homeport.remote.session import begin

    def say(text: str) -> None:
        if not options.quiet:
            click.echo(text, err=True)

    def ready(line: str) -> None:
        print(line, flush=True)
        say("run this in another terminal; Ctrl-C here ends the connection")

    callbacks = observer.Callbacks(ready, lambda instance: say(f"{instance} is connected"))
    sys.exit(observer.hold(begin(options), port, callbacks))
