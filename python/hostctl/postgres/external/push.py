"""What a push asks of a database on somebody else's server: that it is reached from here, and has room for the release.

psql connects by PG variables that come from the URL among the app's secrets; nothing of it is ever an argument.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hostctl.backup import settings
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App
from hostctl.instance import release_command
from hostctl.journal.engine import Work
from hostctl.postgres import connections_check, migrate
from hostctl.postgres.server import cluster
from hostctl.postgres.server.url import place, variables
from hostctl.release import records

LONGEST = 60.0  # seconds that an answer may take
CONNECT = "10"  # seconds
VERSIONS = "SELECT version FROM schema_migrations"


class External(NamedTuple):
    """What provisioning wrote down: `url` is the variable of the app that holds the URL."""

    user: str
    url: str
    pool: int


def require(app: App) -> External:
    """What provisioning wrote down. Raises HostError (usage)."""
    try:
        told = read_json(app.database) or {}
        return External(str(told["user"]), str(told["url"]), int(told["pool"]))
    except (KeyError, TypeError, ValueError) as error:
        raise settings.unreadable_error(app, error) from None


def url(app: App, release: str | None) -> str:
    """The URL in the environment of a release. Raises HostError (usage) when it has none."""
    name = require(app).url
    found = records.environment(app, release).get(name) if release else None
    if not found:
        what = f"no release has {name}, which is to hold the database's URL"
        raise HostError(what, "database.url in deploy.yml", f"export {name}, and deploy push", USAGE)
    return found


# ---------------------------------------------------------------------------------------------- a push


def check_release(work: Work) -> str:
    """The step: connect from the app's confinement, and count. Raises HostError."""
    app, wanted = work.app, require(work.app)
    address = url(app, work.release)
    found = connections_check.read_room(lambda sql: _ask_confined(work, sql, address))
    connections_check.refuse_crowded(
        found, *connections_check.pools(work, wanted.pool), where=place(address, wanted.url)
    )
    return f"PostgreSQL {found.version}, {found.own + found.others} of {found.most} connections in use"


def cancel_check(work: Work) -> None:
    """The undo of `check`."""
    release_command.stop(work, "settings")
    release_command.forget(work, "settings")


def no_point_reason(_: App) -> str | None:
    """No restore point is ever taken: the backups are not ours."""
    return "none: backups of this database are its provider's"


def take_restore_point(work: Work, directory: Path) -> tuple[Json, str]:
    """Raises HostError (usage): see `needless`."""
    raise HostError(
        no_point_reason(work.app) or "", str(directory), "take a backup with the provider's own tools", USAGE
    )


@contextmanager
def around_migrations(work: Work) -> Iterator[None]:
    """Tell of invalid indexes after the migrations."""
    yield
    address = url(work.app, work.release)
    migrate.note_invalid(work, lambda sql: ask(work.app, sql, address))


def applied_migrations(app: App) -> set[int] | None:
    """The versions that the database names as migrated; None when it keeps no table of them. Raises HostError."""
    found = ask(app, "SELECT to_regclass('schema_migrations') IS NULL", url(app, app.live()))
    if found == [["t"]]:
        return None
    return {int(version) for (version,) in ask(app, VERSIONS, url(app, app.live()))}


# ---------------------------------------------------------------------------------------------- psql


def environment(app: App, address: str) -> dict[str, str]:
    """The whole environment of a psql that connects there. Raises HostError (usage)."""
    own = {"PGAPPNAME": "hostctl", "PGCONNECT_TIMEOUT": CONNECT, "HOME": "/nonexistent"}
    return {**cluster.environment(), **own, **variables(address, require(app).url)}


def ask(app: App, sql: str, address: str) -> list[list[str]]:
    """Every row of a statement's result, asked from outside of the app's confinement. Raises HostError."""
    try:
        done = subprocess.run(
            _psql(),
            input=sql,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
            env=environment(app, address),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreachable(app, address, f"psql: {type(error).__name__}") from None
    if done.returncode != 0:
        raise _unreachable(app, address, cluster.error_line(done.stderr))
    return cluster.parse_rows(done.stdout)


def _ask_confined(work: Work, sql: str, address: str) -> list[list[str]]:
    """As `ask`, as the app's user in the app's confinement: what this reaches, the app does."""
    app, record = work.app, work.app.record(work.release)
    log = record / "settings.log"
    release_command.write_environment(work, "settings", environment(app, address))
    try:
        status = release_command.run(work, "settings", [*_psql(), "-c", sql], log, LONGEST)
    finally:
        release_command.forget(work, "settings")
    text = log.read_text(errors="replace")
    if status != 0:
        raise _unreachable(app, address, cluster.error_line(text))
    return cluster.parse_rows(text)


def _psql() -> list[str]:
    return [str(program("psql")), "-Xtqw", "--csv", "-v", "ON_ERROR_STOP=1"]


def program(name: str) -> Path:
    """A program of the newest client that is installed. Raises HostError when none is."""
    found = sorted(cluster.VERSIONS.glob(f"[0-9]*/bin/{name}"), key=lambda path: int(path.parent.parent.name))
    if not found:
        raise HostError(f"{name} is not installed", str(cluster.VERSIONS), "deploy provision")
    return found[-1]


def _unreachable(app: App, address: str, said: str) -> HostError:
    secret = variables(address, require(app).url).get("PGPASSWORD")
    said = said.replace(secret, "[redacted]") if secret else said
    fix = "check the URL, and that the provider lets this host in; then push again"
    return HostError(f"the database does not answer: {said}", place(address, require(app).url), fix)
