"""PostgreSQL's console, and copies to take away: what `db` asks of this engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hostctl.common.errors import DONE, USAGE, HostError
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.accounts import become
from hostctl.postgres.database import dumps, row_counts
from hostctl.postgres.server import cluster

IDLE = "30min"  # without a word; a console that a lost laptop left open would hold its locks for ever


def database_name(app: App, name: str | None) -> str:
    """The name of the app's one database. Raises HostError (usage) for another, and when its server does not run."""
    known = cluster.require(app).name
    if name not in (None, known):
        raise HostError(f"there is no database {name[:80]!r}", "database in deploy.yml", f"it is {known}", USAGE)
    if not cluster.accepts_sessions(cluster.live_server(app)):
        raise HostError("PostgreSQL does not run", app.cluster_unit, f"systemctl status {app.cluster_unit}")
    return known


# ---------------------------------------------------------------------------------------------- console


def open_console(app: App, name: str, write: bool) -> int:
    """psql on the live database, as the app's own user and role. Returns the exit code. Raises HostError."""
    server, user = cluster.live_server(app), cluster.require(app).user
    # the link to the programs is in a directory that the app's user cannot pass
    program = (server.bin / "psql").resolve()
    become(user)
    return run_psql(program, _environment(server.socket, name, user, write), name, write)


def run_psql(program: str | Path, environment: Mapping[str, str], name: str, write: bool) -> int:
    """psql on standard input and output; Ctrl-C is its own: it stops the statement, not the console.

    Returns the exit code. Raises HostError.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        told = (
            "you may write; a statement counts at once, unless you BEGIN"
            if write
            else "read only, --write to change it"
        )
        print(f"{name}: {told}; \\? tells more, \\q ends", flush=True)
    process = subprocess.Popen([str(program), *_style(terminal)], env=environment)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    if code != 0:
        fix = "correct the statement" if write else "correct the statement; --write lets it change the data"
        raise HostError("psql ended with an error, which it has told above", f"database {name}", fix)
    return DONE


def _style(terminal: bool) -> list[str]:
    """On a terminal psql as everybody knows it. Off it the rows come with tabs, and the first error ends it."""
    always = ["-X", "-v", "HISTFILE=/dev/null"]
    return always if terminal else [*always, "-qAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-P", "pager=off"]


def _environment(socket: Path, name: str, user: str, write: bool) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("TERM", "COLUMNS", "LINES", "PAGER") if key in os.environ}
    settings = {"idle_session_timeout": IDLE, "idle_in_transaction_session_timeout": IDLE}
    settings |= {"default_transaction_read_only": "off" if write else "on"}
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    told = {"PGHOST": str(socket), "PGUSER": user, "PGDATABASE": name, "PGOPTIONS": options}
    return cluster.environment() | kept | told | {"PGAPPNAME": "hostctl console"}


# ---------------------------------------------------------------------------------------------- files


def copy(app: App, name: str, sql: bool, scratch: Path) -> Path:
    """A consistent copy below `scratch`: pg_dump's custom form, or SQL text. Raises HostError."""
    server = cluster.live_server(app)
    # custom form is compressed, and indexes are left out of either
    disk.require_space(scratch, row_counts.size(server, name) + disk.SPARE, "a copy")
    return dumps.dump(server, name, scratch / ("copy.sql" if sql else "copy.dump"), sql)


def check_file(app: App, file: Path) -> None:
    """Whether a file may replace the live database: it is a dump that can be read. Raises HostError (usage)."""
    dumps.contents(cluster.live_server(app), file)
