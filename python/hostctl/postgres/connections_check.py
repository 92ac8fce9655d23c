"""The check of PostgreSQL before a push: whether the server answers, and has enough connections for the new release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hostctl.backup import restore_points
from hostctl.common.errors import FAILED, HostError
from hostctl.core.paths import App
from hostctl.instance import release_command
from hostctl.journal.engine import Work
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Cluster
from hostctl.release import records

MIGRATIONS = 2  # connections that Ecto's migrator opens
LONGEST = 60.0  # seconds that a connection from the app's confinement may take
# the server's limit, those of the role and the database (-1: none), and the open connections
CAPACITY = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = {user}),
       (SELECT datconnlimit FROM pg_database WHERE datname = {name}),
       count(*) FILTER (WHERE usename = {user}), count(*) FILTER (WHERE usename IS DISTINCT FROM {user}),
       current_setting('server_version')
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

Rows = list[list[str]]


class Capacity(NamedTuple):
    """The connections of a server: its limit, the limit of the app, and those that the app and others hold now."""

    most: int
    own_limit: int | None
    own: int
    others: int
    version: str


# ---------------------------------------------------------------------------------------------- the step


def check_release(work: Work) -> str:
    """The step: check the server. Raises HostError when the release, or its migrations, would fail."""
    app, config = work.app, cluster.require(work.app)
    server = cluster.live_server(app)
    if not cluster.accepts_sessions(server):
        fix = f"journalctl -u {app.cluster_unit} shows the reason; deploy status"
        raise HostError("PostgreSQL does not answer", app.cluster_unit, fix)
    _refuse_unprotected(work)
    bound = {"user": config.user, "name": config.name}
    capacity = read_capacity(lambda sql: cluster.query(server, sql, bound=bound), ":'user'", ":'name'")
    require_connections(capacity, *pools(work, config.pool), where=f"database.pool of {app.name}")
    _connect_as_app(work, config)
    return f"PostgreSQL {capacity.version}, {capacity.own + capacity.others} of {capacity.most} connections in use"


def cancel_check(work: Work) -> None:
    """The undo of `check_release`: end a connection attempt that still runs."""
    release_command.stop(work, "settings")


def _refuse_unprotected(work: Work) -> None:
    """Refuse migrations while WAL is dropped: the data before them could not be restored."""
    dropping = work.app.cluster / "dropping"
    if not dropping.exists():
        return
    live = work.journal.previous
    if live is None or restore_points.new_migrations(work.app, work.release, live) == set():
        work.note("the backup has a gap: WAL is dropped until S3 accepts it again (deploy backup status)")
        return
    what = "the backup has a gap: S3 accepts nothing and WAL is dropped, so these migrations could not be undone"
    raise HostError(what, str(dropping), "correct what deploy backup status shows, and push again", FAILED)


# ---------------------------------------------------------------------------------------------- connections


def read_capacity(ask: Callable[[str], Rows], user: str = "current_user", name: str = "current_database()") -> Capacity:
    """The capacity of the server. `user` and `name` are SQL expressions. Raises HostError."""
    most, role, database, own, others, version = ask(CAPACITY.format(user=user, name=name))[0]
    limits = [int(limit) for limit in (role, database) if limit and int(limit) >= 0]
    return Capacity(int(most), min(limits, default=None), int(own), int(others), version)


def pools(work: Work, pool: int) -> tuple[int, int]:
    """How many connections the live release and the new one may open."""
    app, live = work.app, work.journal.previous
    before = records.environment(app, live).get("POOL_SIZE", "") if live else "0"
    return _number(before, pool), _number(records.environment(app, work.release).get("POOL_SIZE", ""), pool)


def _number(text: str, default: int) -> int:
    return int(text) if text.isdigit() else default


def require_connections(capacity: Capacity, before: int, after: int, where: str) -> None:
    """Raises HostError unless the connections suffice for both releases, the migrations and the other users."""
    needed = max(capacity.own, before) + max(after, MIGRATIONS)
    free = capacity.most - capacity.others
    free = min(free, capacity.own_limit) if capacity.own_limit is not None else free
    if needed <= free:
        return
    what = f"the database has not enough connections: the live release and the new one may open {needed} together"
    what += f" ({max(capacity.own, before)} and {max(after, MIGRATIONS)}), and {max(free, 0)} are left"
    what += f" of {capacity.most}; others hold {capacity.others}" if capacity.others else f" of {capacity.most}"
    raise HostError(what, where, "lower database.pool (or POOL_SIZE), or raise the server's limit, and push again")


def _connect_as_app(work: Work, config: Cluster) -> None:
    """Connect as the app does: as its user, in its confinement, through the socket. Raises HostError."""
    app, log = work.app, work.app.record(work.release) / "settings.log"
    argv = [psql(app), "-XAtq", "-h", app.cluster_socket, "-U", config.user, "-d", config.name, "-c", "SELECT 1"]
    if release_command.run(work, "settings", [str(part) for part in argv], log, LONGEST) != 0:
        error = cluster.error_line(log.read_text(errors="replace"))
        fix = "deploy provision writes pg_hba.conf and pg_ident.conf anew; then push again"
        raise HostError(f"{config.user} cannot connect to its database: {error}", str(app.cluster_socket), fix)


def psql(app: App) -> Path:
    """The path of psql without links: the app's user cannot enter the directory of the link."""
    return app.cluster_bin.resolve() / "psql"
