"""deploy lock: locks the app against deployments by others."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, a_line, as_json, common

EPILOG = """Examples:

  deploy lock acquire -m "database maintenance until noon"

  deploy lock status

  deploy lock release
"""


def _a_reason(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("the reason is empty")
    return str(a_line(ctx, param, value))


@click.group(epilog=EPILOG)
def command() -> None:
    """Lock the app, so that nobody else can deploy it. Every push takes the lock by itself while it runs."""


@command.command()
@click.option("-m", "--message", required=True, callback=_a_reason, help="The reason, which others are shown.")
@common
def acquire(options: Options, message: str) -> None:
    """Take the lock and hold it until `deploy lock release`."""
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin

    begin(options).hostctl.call("lock", "acquire", "--message", message, *performer_options())
    click.echo("locked; to release it: deploy lock release", err=True)


@command.command()
@click.option("--force", is_flag=True, help="Release also a lock that somebody else holds.")
@common
def release(options: Options, force: bool) -> None:
    """Release the lock."""
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin

    extra = ["--force"] if force else []
    begin(options).hostctl.call("lock", "release", *performer_options(), *extra)
    click.echo("released", err=True)


@command.command()
@as_json
@common
def status(options: Options, as_json: bool) -> None:
    """Show who holds the lock."""
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    lock = with_iso_times(begin(options).hostctl.call("lock", "status")["lock"])
    if as_json:
        print(json.dumps({"lock": lock}))
    elif lock:
        print(f"{lock['who']} from {lock['from']} since {lock['since']}: {lock.get('message') or lock.get('verb')}")
    else:
        print("free")
