"""deploy observer: a local Observer on the live instance."""

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
    """Let the live instance connect to a node on this machine, for the Observer and the like, until Ctrl-C.

    It prints the command that starts that node, which listens on PORT of this machine's loopback network (14370). The
    instance connects to it through this command's own login; on the host nothing is opened to the outside. The release
    must hold :runtime_tools (extra_applications in mix.exs), as one of Phoenix does.
    """
    from homeport.remote import observer
    from homeport.remote.session import begin

    def say(text: str) -> None:
        if not options.quiet:
            click.echo(text, err=True)

    def ready(line: str) -> None:
        print(line, flush=True)
        say("type this in another terminal; Ctrl-C here ends it")

    told = observer.Told(ready, lambda instance: say(f"{instance} is reached"))
    sys.exit(observer.hold(begin(options), port, told))
