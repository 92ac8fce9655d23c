"""deploy db: console, dump, load, tunnel and upgrade of the live database."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click

from homeport.core.errors import HomeportError
from homeport.options.options import Options, a_line, common
from hostctl.common.timestamps import compact

EPILOG = """Examples:

  deploy db console

  echo "select count(*) from users;" | deploy db console

  deploy db dump before-the-sale.dump

  deploy db load before-the-sale.dump     (replaces the live database; the old one becomes kept data)

  deploy db tunnel                        (PostgreSQL: a local port for psql, an editor, a notebook)

  deploy db upgrade                       (PostgreSQL: to the newest major version installed on the host)
"""

# engine -> the extension of a dump's file name
_ENDINGS = {"sqlite": "db", "postgres": "dump", "external": "dump"}

_which = click.option(
    "--database", metavar="NAME", callback=a_line, help="A database of backup.extra; default: the app's own."
)


@click.group(epilog=EPILOG)
def command() -> None:
    """Open a console or a tunnel to the database; dump it, replace it by a dump, or upgrade its server."""


@command.command()
@click.option("--write", is_flag=True, help="Allow statements that change data.")
@_which
@common
def console(options: Options, write: bool, database: str | None) -> None:
    """Open an SQL console on the live database, read-only. In a pipe it prints rows with tabs between the columns."""
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin
    from homeport.ssh import connection

    session = begin(options)
    words = [
        "db",
        "console",
        *(["--write"] if write else []),
        *_database_option(database),
        *performer_options(),
    ]
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    done = subprocess.run(
        connection.command(session.target, session.hostctl.command(*words), terminal=terminal), check=False
    )
    if done.returncode == connection.CONNECTION_FAILED:
        raise HomeportError("the connection to the host failed", str(session.target), "run deploy db console again")
    sys.exit(done.returncode)


@command.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--sql", is_flag=True, help="Write SQL text instead of an SQLite file or pg_dump's custom format.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@_which
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def dump(options: Options, file: Path | None, sql: bool, force: bool, database: str | None, as_json: bool) -> None:
    """Write a consistent copy of the live database to FILE, while the app runs."""
    from homeport.core.humanize import size
    from homeport.remote import database_transfer
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    ending = "sql" if sql else _ENDINGS.get(session.loaded.config.database.engine, "db")
    target = file or Path(f"{session.app}-{compact(time.time())}.{ending}")
    words = ["db", "dump", *(["--sql"] if sql else []), *_database_option(database)]
    received = database_transfer.fetch(session, words, target, Screen(quiet=options.quiet), force=force)
    if as_json:
        print(json.dumps({"file": str(target), "bytes": received}))
    elif not options.quiet:
        click.echo(f"{target}, {size(received)}")


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def load(options: Options, file: Path, yes: bool, as_json: bool) -> None:
    """Replace the live database by FILE. The old database becomes kept data on the host.

    FILE is an SQLite database, or for PostgreSQL a file written by `deploy db dump` or `pg_dump --format=custom`.

    The file is checked, requests wait at the edge while the data is replaced, and the old data is put back unless the
    app becomes healthy.
    """
    from homeport.core.performer import performer_options
    from homeport.deployment import transition
    from homeport.remote import database_transfer
    from homeport.remote.session import begin
    from homeport.screen.confirm import confirm
    from homeport.screen.screen import Screen

    session = begin(options)
    database_transfer.check(file, session.loaded.config.database.engine)
    confirm(f"The database of {session.app} on {session.target.host} is replaced by {file}.", yes)
    words = ["db", "load", *performer_options()]
    begun = database_transfer.send(session, file, words, Screen(quiet=options.quiet))
    transition.follow(session, begun["transition"], as_json=as_json)


@command.command()
@click.argument("port", required=False, default=15432, type=click.IntRange(1, 65535))
@common
def tunnel(options: Options, port: int) -> None:
    """Forward PORT of this machine (default 15432) to the live PostgreSQL, until Ctrl-C.

    Only this machine can connect to the port. Clients log in as the app's user and can change the live data.
    """
    from homeport.remote import tunnel as tunnels
    from homeport.remote.session import begin

    session = begin(options)
    forwarding = tunnels.postgres(session, port)

    def on_open() -> None:
        print("\n".join(tunnels.lines(session, port)), flush=True)
        if not options.quiet:
            click.echo("open until Ctrl-C", err=True)

    tunnels.hold(session, forwarding, on_open)


@command.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def upgrade(options: Options, yes: bool, as_json: bool) -> None:
    """Upgrade the database to the newest major version of PostgreSQL that is installed on the host.

    A backup is taken and verified first. Requests wait at the edge while pg_upgrade runs. The upgrade is undone unless
    the app becomes healthy with it; the old cluster becomes kept data on the host.
    """
    from homeport.core.humanize import size
    from homeport.core.performer import performer_options
    from homeport.deployment import transition
    from homeport.remote.session import begin
    from homeport.screen.confirm import confirm

    session = begin(options)
    planned = session.hostctl.call("db", "upgrade", "--plan")
    what = f"The database of {session.app} ({size(planned['bytes'])})"
    confirm(f"{what} moves from PostgreSQL {planned['from']} to {planned['to']}; requests wait meanwhile.", yes)
    begun = session.hostctl.call("db", "upgrade", *performer_options())
    transition.follow(session, begun["transition"], as_json=as_json)


def _database_option(database: str | None) -> list[str]:
    return ["--database", database] if database else []
