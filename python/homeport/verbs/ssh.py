"""deploy ssh: a login on the host, with the project's pinned host key."""

from __future__ import annotations

import os

import click

from homeport.options.options import Options, common
from homeport.remote.interactive import AS_TYPED

EPILOG = """Examples:

  deploy ssh

  deploy ssh uptime

  deploy ssh --provision journalctl -u caddy -n 50
"""


@click.command(epilog=EPILOG, context_settings=AS_TYPED)
@click.option("--provision", is_flag=True, help="Log in as the user who provisions, not the one who pushes.")
@click.argument("words", nargs=-1, metavar="[CMD...]", type=click.UNPROCESSED)
@common
def command(options: Options, provision: bool, words: tuple[str, ...]) -> None:
    """Log in to the host, or run a command there, by ssh with the key and port of deploy.yml and the pinned host key.

    The exit status is that of ssh. Options come before CMD.
    """
    from homeport.remote.session import begin
    from homeport.ssh import connection

    session = begin(options)
    target = session.provision_target if provision else session.target
    argv = connection.command(target, list(words), terminal=not words)
    os.execvp(argv[0], argv)  # noqa: S606 - ssh takes over the terminal and gives its own exit status
