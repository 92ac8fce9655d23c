"""A push with a database on a server of a provider: checks that the app can connect, and has enough connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.instance import release_command
from hostctl.journal.engine import Work
from hostctl.postgres import connections_check, migrate
from hostctl.postgres.external import connection
from hostctl.postgres.server import cluster
from hostctl.postgres.server.url import location

VERSIONS = "SELECT version FROM schema_migrations"


def check_release(work: Work) -> str:
    """The step: connect from the app's confinement, and compare the connections. Raises HostError."""
    app, config = work.app, connection.require(work.app)
    address = connection.url(app, work.release)
    capacity = connections_check.read_capacity(lambda sql: _query_confined(work, sql, address))
    needed = connections_check.pools(work, config.pool)
    connections_check.require_connections(capacity, *needed, where=location(address, config.url))
    return f"PostgreSQL {capacity.version}, {capacity.own + capacity.others} of {capacity.most} connections in use"


def cancel_check(work: Work) -> None:
    """The undo of `check_release`."""
    release_command.stop(work, "settings")
    release_command.forget(work, "settings")


def no_point_reason(_: App) -> str | None:
    """No restore point is ever taken: the provider makes the backups."""
    return "none: backups of this database are its provider's"


def take_restore_point(work: Work, directory: Path) -> tuple[Json, str]:
    """Raises HostError (usage): see `no_point_reason`."""
    what, fix = no_point_reason(work.app) or "", "take a backup with the provider's own tools"
    raise HostError(what, str(directory), fix, USAGE)


@contextmanager
def around_migrations(work: Work) -> Iterator[None]:
    """A context that reports invalid indexes after the migrations."""
    yield
    address = connection.url(work.app, work.release)
    migrate.note_invalid(work, lambda sql: connection.query(work.app, sql, address))


def applied_migrations(app: App) -> set[int] | None:
    """The versions of the applied migrations; None without their table. Raises HostError."""
    address = connection.url(app, app.live())
    missing = connection.query(app, "SELECT to_regclass('schema_migrations') IS NULL", address)
    if missing == [["t"]]:
        return None
    return {int(version) for (version,) in connection.query(app, VERSIONS, address)}


def _query_confined(work: Work, sql: str, address: str) -> list[list[str]]:
    """As `connection.query`, but as the app's user in the app's confinement."""
    app, record = work.app, work.app.record(work.release)
    log = record / "settings.log"
    release_command.write_environment(work, "settings", connection.environment(app, address))
    try:
        argv = [*connection.psql_command(), "-c", sql]
        status = release_command.run(work, "settings", argv, log, connection.LONGEST)
    finally:
        release_command.forget(work, "settings")
    text = log.read_text(errors="replace")
    if status != 0:
        raise connection.unreachable_error(app, address, cluster.error_line(text))
    return cluster.parse_rows(text)
