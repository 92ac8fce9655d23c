"""The connection to a database on a server of a provider.

psql connects by PG variables, which come from the URL among the app's secrets; none of it is an argument.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hostctl.backup import settings
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import read_json
from hostctl.core.paths import App
from hostctl.host.boundary import users
from hostctl.postgres.server import cluster
from hostctl.postgres.server.url import location, variables
from hostctl.release import records

LONGEST = 60.0  # seconds that an answer may take
CONNECT = "10"  # seconds


class External(NamedTuple):
    """The settings that provisioning wrote: `url` is the name of the app's variable that holds the URL."""

    user: str
    url: str
    pool: int


def require(app: App) -> External:
    """The settings that provisioning wrote. Raises HostError (usage)."""
    try:
        document = read_json(app.database) or {}
        return External(str(document["user"]), str(document["url"]), int(document["pool"]))
    except (KeyError, TypeError, ValueError) as error:
        raise settings.unreadable_error(app, error) from None


def url(app: App, release: str | None) -> str:
    """The URL in the environment of a release. Raises HostError (usage) without one."""
    name = require(app).url
    value = records.environment(app, release).get(name) if release else None
    if not value:
        what = f"no release has {name}, the secret with the database's URL"
        raise HostError(what, "database.url in deploy.yml", f"export {name}, and deploy push", USAGE)
    return value


def environment(app: App, address: str) -> dict[str, str]:
    """The whole environment of a psql that connects to the URL. Raises HostError (usage)."""
    own = {"PGAPPNAME": "hostctl", "PGCONNECT_TIMEOUT": CONNECT, "HOME": "/nonexistent"}
    return {**cluster.environment(), **own, **variables(address, require(app).url)}


def query(app: App, sql: str, address: str) -> list[list[str]]:
    """Every row of a statement's result. psql is the app's user's, outside of its confinement: whoever sets the URL
    says which files and sockets it opens. Raises HostError.
    """
    try:
        done = subprocess.run(
            as_app(app, psql_command()),
            input=sql,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
            env=environment(app, address),
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise unreachable_error(app, address, f"psql: {type(error).__name__}") from None
    if done.returncode != 0:
        raise unreachable_error(app, address, cluster.error_line(done.stderr))
    return cluster.parse_rows(done.stdout)


def as_app(app: App, argv: Sequence[str]) -> list[str]:
    """The command that runs a program as the app's user, who has the URL as well."""
    return users.command_as(require(app).user, argv) if os.geteuid() == 0 else list(argv)


def psql_command() -> list[str]:
    """A psql that reads SQL and prints CSV."""
    return [str(program("psql")), "-Xtqw", "--csv", "-v", "ON_ERROR_STOP=1"]


def program(name: str) -> Path:
    """A program of the newest client that is installed. Raises HostError when none is."""
    installed = sorted(cluster.VERSIONS.glob(f"[0-9]*/bin/{name}"), key=lambda path: int(path.parent.parent.name))
    if not installed:
        raise HostError(f"{name} is not installed", str(cluster.VERSIONS), "deploy provision")
    return installed[-1]


def unreachable_error(app: App, address: str, error: str) -> HostError:
    """The error of a failed connection or statement, without the password."""
    secret = variables(address, require(app).url).get("PGPASSWORD")
    error = error.replace(secret, "[redacted]") if secret else error
    fix = "check the URL, and that the provider allows connections from this host; then push again"
    return HostError(f"the database does not answer: {error}", location(address, require(app).url), fix)
