"""PostgreSQL's side of `hostctl APP db`: the console, and copies of the database."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hostctl.common.errors import DONE, USAGE, HostError
from hostctl.common.files import make_directory, unlink
from hostctl.common.names import transition_id
from hostctl.core.paths import App
from hostctl.host import disk, terminal
from hostctl.host.host import Host
from hostctl.instance import one_off
from hostctl.postgres.database import dumps, row_counts
from hostctl.postgres.server import cluster
from hostctl.release import environment

IDLE = "30min"  # a console that a lost connection left open would hold its locks for ever


def database_name(app: App, name: str | None) -> str:
    """The name of the app's one database. Raises HostError (usage) for another, and when its server does not run."""
    own_name = cluster.require(app).name
    if name not in (None, own_name):
        raise HostError(f"there is no database {name[:80]!r}", "database in deploy.yml", f"it is {own_name}", USAGE)
    if not cluster.accepts_sessions(cluster.live_server(app)):
        raise HostError("PostgreSQL does not run", app.cluster_unit, f"systemctl status {app.cluster_unit}")
    return own_name


# ---------------------------------------------------------------------------------------------- console


def open_console(app: App, name: str, write: bool) -> int:
    """psql on the live database, as the app's own user and role. Returns the exit code. Raises HostError."""
    server, user = cluster.live_server(app), cluster.require(app).user
    # the app's user cannot enter the directory of the link to the programs
    program = (server.bin / "psql").resolve()
    return run_psql(app, program, _variables(server.socket, name, user, write), name, write)


def run_psql(app: App, program: str | Path, variables: Mapping[str, str], name: str, write: bool) -> int:
    """Run psql on standard input and output, as the app's user in the instance's confinement: `\\!` and `\\copy` reach
    no further than the app. Ctrl-C on a terminal cancels the statement and does not end the console.

    Returns the exit code. Raises HostError.
    """
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if on_terminal:
        mode = (
            "writable; each statement is committed at once, unless you BEGIN"
            if write
            else "read only, --write to change"
        )
        print(f"{name}: {mode}; \\? for help, \\q to quit", flush=True)
    if _confined(app, [str(program), *_style(on_terminal)], variables, on_terminal, Host()) != 0:
        fix = "correct the statement" if write else "correct the statement; --write lets it change the data"
        raise HostError("psql ended with the error above", f"database {name}", fix)
    return DONE


def _confined(app: App, argv: list[str], variables: Mapping[str, str], on_terminal: bool, host: Host) -> int:
    """Run a program in a unit of its own. Returns its exit status. Raises HostError."""
    unit = f"db-{transition_id()}"
    # a password among the variables is in no argument: systemd decrypts the file for the unit alone
    path = app.state / "asked" / f"{unit}.cred"
    make_directory(path.parent, 0o700)
    environment.seal(path, variables)
    try:
        properties = ["Type=exec", *one_off.walls(app, unit, path, host)]
        return terminal.foreground(app.helper_unit(unit), one_off.command(argv), properties, on_terminal, host)
    finally:
        unlink(path)


def _style(terminal: bool) -> list[str]:
    """The options of psql: its defaults on a terminal; else rows with tabs, and an end at the first error."""
    always = ["-X", "-v", "HISTFILE=/dev/null"]
    return always if terminal else [*always, "-qAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-P", "pager=off"]


def _variables(socket: Path, name: str, user: str, write: bool) -> dict[str, str]:
    terminal = {key: os.environ[key] for key in ("TERM", "COLUMNS", "LINES", "PAGER") if key in os.environ}
    settings = {"idle_session_timeout": IDLE, "idle_in_transaction_session_timeout": IDLE}
    settings |= {"default_transaction_read_only": "off" if write else "on"}
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    connection = {"PGHOST": str(socket), "PGUSER": user, "PGDATABASE": name, "PGOPTIONS": options}
    # not the requirement of the server's user: the confinement's user namespace maps every other user to nobody
    return cluster.environment() | terminal | connection | {"PGAPPNAME": "hostctl console"}


# ---------------------------------------------------------------------------------------------- files


def copy(app: App, name: str, sql: bool, scratch: Path) -> Path:
    """Write a consistent copy below `scratch`, in pg_dump's custom format or as SQL. Raises HostError."""
    server = cluster.live_server(app)
    # the custom format is compressed, and neither has indexes
    disk.require_space(scratch, row_counts.size(server, name) + disk.SPARE, "a copy")
    return dumps.dump(server, name, scratch / ("copy.sql" if sql else "copy.dump"), sql)


def check_file(app: App, file: Path) -> None:
    """Raises HostError (usage) unless the file is a dump that can be read."""
    dumps.contents(cluster.live_server(app), file, cluster.require(app).user)
