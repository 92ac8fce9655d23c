"""deploy db: the live database, for a person."""

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

  deploy db load before-the-sale.dump     (replaces the live database; what was there is kept aside)

  deploy db tunnel                        (PostgreSQL: a port here for psql, an editor, a notebook)

  deploy db upgrade                       (PostgreSQL: to the newest major version that is installed there)
"""

# what the file of a dump ends with
_ENDINGS = {"sqlite": "db", "postgres": "dump", "external": "dump"}

_which = click.option("--database", metavar="NAME", callback=a_line, help="One of backup.extra; else the app's own.")


@click.group(epilog=EPILOG)
def command() -> None:
    """Open a console on the database or a way to it, take a copy, put one in its place, upgrade its server."""


@command.command()
@click.option("--write", is_flag=True, help="Allow statements that change something.")
@_which
@common
def console(options: Options, write: bool, database: str | None) -> None:
    """Open an SQL console on the live database, to read it. Through a pipe: rows with tabs between the columns."""
    from homeport.core.performer import here, who
    from homeport.remote.session import begin
    from homeport.ssh import connection

    session = begin(options)
    words = ["db", "console", *(["--write"] if write else []), *_named(database), "--who", who(), "--from", here()]
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    done = subprocess.run(
        connection.command(session.target, session.hostctl.command(*words), terminal=terminal), check=False
    )
    if done.returncode == connection.CONNECTION_FAILED:
        raise HomeportError("the connection to the host failed", str(session.target), "deploy db console again")
    sys.exit(done.returncode)


@command.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--sql", is_flag=True, help="SQL text: not a SQLite file, nor pg_dump's custom form.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@_which
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def dump(options: Options, file: Path | None, sql: bool, force: bool, database: str | None, as_json: bool) -> None:
    """Take a consistent copy of the live database to FILE, while the app works on."""
    from homeport.core.humanize import size
    from homeport.remote import database_transfer
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    ending = "sql" if sql else _ENDINGS.get(session.loaded.config.database.engine, "db")
    target = file or Path(f"{session.app}-{compact(time.time())}.{ending}")
    words = ["db", "dump", *(["--sql"] if sql else []), *_named(database)]
    received = database_transfer.fetch(session, words, target, Screen(quiet=options.quiet), force=force)
    if as_json:
        print(json.dumps({"file": str(target), "bytes": received}))
    elif not options.quiet:
        click.echo(f"{target}, {size(received)}")


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask: there is no terminal, or the answer is known.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def load(options: Options, file: Path, yes: bool, as_json: bool) -> None:
    """Replace the live database by FILE. The one that was there is kept aside on the host.

    FILE is a SQLite database, or for PostgreSQL what `deploy db dump` or `pg_dump --format=custom` writes.

    As a restore does it: requests wait at the edge, the file is checked, and all is undone unless the app is healthy.
    """
    from homeport.core.performer import here, who
    from homeport.deployment import transition
    from homeport.remote import database_transfer
    from homeport.remote.session import begin
    from homeport.screen.confirm import sure
    from homeport.screen.screen import Screen

    session = begin(options)
    database_transfer.check(file, session.loaded.config.database.engine)
    sure(f"The database of {session.app} on {session.target.host} is replaced by {file}.", yes)
    words = ["db", "load", "--who", who(), "--from", here()]
    begun = database_transfer.send(session, file, words, Screen(quiet=options.quiet))
    transition.follow(session, begun["transition"], as_json=as_json)


@command.command()
@click.argument("port", required=False, default=15432, type=click.IntRange(1, 65535))
@common
def tunnel(options: Options, port: int) -> None:
    """Open a way to the live PostgreSQL from PORT of this machine (15432), until Ctrl-C.

    Only this machine can use it. What is typed at its end counts at once, as the app's own user.
    """
    from homeport.remote import tunnel as tunnels
    from homeport.remote.session import begin

    session = begin(options)
    way = tunnels.postgres(session, port)

    def told() -> None:
        print("\n".join(tunnels.lines(session, port)), flush=True)
        if not options.quiet:
            click.echo("open until Ctrl-C", err=True)

    tunnels.hold(session, way, told)


@command.command()
@click.option("--yes", is_flag=True, help="Do not ask: there is no terminal, or the answer is known.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def upgrade(options: Options, yes: bool, as_json: bool) -> None:
    """Move the database to the newest major version of PostgreSQL that is installed on the host.

    A backup is taken and proven first. Requests wait at the edge while pg_upgrade works; all is undone unless the app
    is healthy with it, and the cluster that was there is kept aside on the host.
    """
    from homeport.core.humanize import size
    from homeport.core.performer import here, who
    from homeport.deployment import transition
    from homeport.remote.session import begin
    from homeport.screen.confirm import sure

    session = begin(options)
    asked = session.hostctl.call("db", "upgrade", "--plan")
    what = f"The database of {session.app} ({size(asked['bytes'])})"
    sure(f"{what} moves from PostgreSQL {asked['from']} to {asked['to']}; requests wait meanwhile.", yes)
    begun = session.hostctl.call("db", "upgrade", "--who", who(), "--from", here())
    transition.follow(session, begun["transition"], as_json=as_json)


def _named(database: str | None) -> list[str]:
    return ["--database", database] if database else []
