"""deploy logs: the app's journal."""

from __future__ import annotations

import subprocess
import sys

import click

from homeport.errors import HomeportError
from homeport.options import Options, a_release, common

EPILOG = """Examples:

  deploy logs -f

  deploy logs -n 500 --release 20261121T0413
"""


@click.command(epilog=EPILOG)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines.")
@click.option("--release", callback=a_release, help="One release's instance only.")
@common
def command(options: Options, follow: bool, count: int, release: str | None) -> None:
    """Show the app's journal, all instances together unless a release is named."""
    from homeport import ssh
    from homeport.session import begin

    session = begin(options)
    # asked first: what hostctl refuses is told as every refusal is
    named = session.hostctl.call("record", "--release", release)["record"]["release"] if release else None
    args = ["-n", str(count), *(["-f"] if follow else []), *(["--release", named] if named else [])]
    # a child that has this terminal: Ctrl-C and a closed pipe reach it as they would reach a plain `ssh … journalctl`
    done = subprocess.run(ssh.command(session.target, session.hostctl.command("logs", *args)), check=False)
    if done.returncode == ssh.CONNECTION_FAILED:
        raise HomeportError("the connection to the host failed", str(session.target), "deploy logs again")
    sys.exit(done.returncode)
