"""`hostctl APP db` with a database on a server of a provider: psql, and dumps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import App
from hostctl.postgres.console import run_psql
from hostctl.postgres.external import connection
from hostctl.postgres.server import cluster
from hostctl.postgres.server.url import variables

READ_ONLY = "-c default_transaction_read_only=on"


def database_name(app: App, name: str | None) -> str:
    """The name of the one database. Raises HostError (usage) for another name."""
    own_name = variables(connection.url(app, app.live()), connection.require(app).url)["PGDATABASE"]
    if name not in (None, own_name):
        raise HostError(f"there is no database {name}", "database in deploy.yml", f"it is {own_name}", USAGE)
    return own_name


def open_console(app: App, name: str, write: bool) -> int:
    """Run psql on standard input and output, as the app's user; read-only unless `write`. Raises HostError."""
    env = connection.environment(app, connection.url(app, app.live())) | ({} if write else {"PGOPTIONS": READ_ONLY})
    psql = connection.program("psql")
    env |= {"TERM": os.environ.get("TERM", "dumb"), "PSQL_HISTORY": os.devnull}
    return run_psql(app, psql, env, name, write)


def copy(app: App, name: str, sql: bool, scratch: Path) -> Path:
    """Write a consistent copy below `scratch`, in pg_dump's custom format or as SQL. Raises HostError."""
    target = scratch / f"{name}.{'sql' if sql else 'dump'}"
    argv = [str(connection.program("pg_dump")), "-w", "--format=plain" if sql else "--format=custom"]
    env = connection.environment(app, connection.url(app, app.live()))
    with open(target, "xb", opener=_private) as output:
        done = subprocess.run(
            connection.as_app(app, argv),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd="/",
        )
    if done.returncode != 0:
        fix = "use a pg_dump of the server's version, or the provider's own tools"
        raise HostError(f"pg_dump failed: {cluster.error_line(done.stderr)}", name, fix)
    return target


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def check_file(app: App, file: Path) -> None:
    """Raises HostError (usage): hostctl does not replace such a database."""
    what = f"the database of {app.name} is on a server of its provider, so Homeport does not replace it"
    raise HostError(what, str(file), "load it with pg_restore, or the provider's own tools", USAGE)
