"""A database on somebody else's server, for a person: psql, and a dump to take away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import App
from hostctl.host.accounts import become
from hostctl.postgres.console import run_psql
from hostctl.postgres.external import push as external
from hostctl.postgres.server import cluster
from hostctl.postgres.server.url import variables

READ_ONLY = "-c default_transaction_read_only=on"


def database_name(app: App, name: str | None) -> str:
    """The name of the database; there is one. Raises HostError (usage)."""
    found = variables(external.url(app, app.live()), external.require(app).url)["PGDATABASE"]
    if name not in (None, found):
        raise HostError(f"there is no database {name}", "database in deploy.yml", f"it is {found}", USAGE)
    return found


def open_console(app: App, name: str, write: bool) -> int:
    """psql on standard input and output, as the app's own user; it only reads unless `write`. Raises HostError."""
    env = external.environment(app, external.url(app, app.live())) | ({} if write else {"PGOPTIONS": READ_ONLY})
    psql = external.program("psql")
    env |= {"TERM": os.environ.get("TERM", "dumb"), "PSQL_HISTORY": os.devnull}
    become(external.require(app).user)
    return run_psql(psql, env, name, write)


def copy(app: App, name: str, sql: bool, scratch: Path) -> Path:
    """A consistent copy below `scratch`: pg_dump's own form, or SQL text. Raises HostError."""
    target = scratch / f"{name}.{'sql' if sql else 'dump'}"
    argv: list[str | Path] = [external.program("pg_dump"), "-w", "--format=plain" if sql else "--format=custom"]
    env = external.environment(app, external.url(app, app.live()))
    done = subprocess.run(
        [*argv, "-f", target], env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        fix = "use a pg_dump of the server's version, or the provider's own tools"
        raise HostError(f"no dump was made: {cluster.error_line(done.stderr)}", name, fix)
    return target


def check_file(app: App, file: Path) -> None:
    """Raises HostError (usage): such a database is not replaced from here."""
    what = f"the database of {app.name} is on a server of its provider's: it is not replaced from here"
    raise HostError(what, str(file), "load it with pg_restore, or the provider's own tools", USAGE)
