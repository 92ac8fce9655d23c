"""What a push asks of PostgreSQL before it touches anything: whether the database will bear the new release."""

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
# what a server has room for, who asks, and what is open; a role or database may have a limit of its own, -1 for none
ROOM = """
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
    """Connections of a server: how many it lets in, how many of those the app may have, and who holds some now."""

    most: int
    own_limit: int | None
    own: int
    others: int
    version: str


# ---------------------------------------------------------------------------------------------- the step


def check(work: Work) -> str:
    """The step: ask the server. Raises HostError where the release, or its migrations, would fail on it."""
    app, wanted = work.app, cluster.require(work.app)
    server = cluster.live_server(app)
    if not cluster.accepts_sessions(server):
        fix = f"journalctl -u {app.cluster_unit} tells why; deploy status"
        raise HostError("PostgreSQL does not answer", app.cluster_unit, fix)
    _refuse_unprotected(work)
    bound = {"user": wanted.user, "name": wanted.name}
    found = read_room(lambda sql: cluster.query(server, sql, bound=bound), ":'user'", ":'name'")
    refuse_crowded(found, *pools(work, wanted.pool), where=f"database.pool of {app.name}")
    _connect_as_app(work, wanted)
    return f"PostgreSQL {found.version}, {found.own + found.others} of {found.most} connections in use"


def cancel(work: Work) -> None:
    """The undo of the step: the connection ends, if it is still being tried."""
    release_command.stop(work, "settings")


def _refuse_unprotected(work: Work) -> None:
    """While the log is dropped nothing could be restored to before the migrations."""
    dropping = work.app.cluster / "dropping"
    if not dropping.exists():
        return
    live = work.journal.previous
    if live is None or restore_points.new_migrations(work.app, work.release, live) == set():
        work.note("the backup has a gap: S3 takes nothing, and the log is dropped until it does (deploy backup status)")
        return
    what = "the backup has a gap: S3 takes nothing and the log is dropped, so these migrations could not be taken back"
    raise HostError(what, str(dropping), "mend what deploy backup status tells, and push again", FAILED)


# ---------------------------------------------------------------------------------------------- connections


def read_room(ask: Callable[[str], Rows], user: str = "current_user", name: str = "current_database()") -> Capacity:
    """What the server has room for. `user` and `name` are expressions of SQL. Raises HostError."""
    most, role, database, own, others, version = ask(ROOM.format(user=user, name=name))[0]
    limits = [int(limit) for limit in (role, database) if limit and int(limit) >= 0]
    return Capacity(int(most), min(limits, default=None), int(own), int(others), version)


def pools(work: Work, pool: int) -> tuple[int, int]:
    """How many connections the release that is live may open, and the new one."""
    app, live = work.app, work.journal.previous
    before = records.environment(app, live).get("POOL_SIZE", "") if live else "0"
    return _number(before, pool), _number(records.environment(app, work.release).get("POOL_SIZE", ""), pool)


def _number(text: str, default: int) -> int:
    return int(text) if text.isdigit() else default


def refuse_crowded(room: Capacity, before: int, after: int, where: str) -> None:
    """Raises HostError unless both releases fit beside one another, with the migrations, and those who are there."""
    need = max(room.own, before) + max(after, MIGRATIONS)
    free = room.most - room.others
    free = min(free, room.own_limit) if room.own_limit is not None else free
    if need <= free:
        return
    what = f"the database has not enough connections: the live release and the new one may open {need} together"
    what += f" ({max(room.own, before)} and {max(after, MIGRATIONS)}), and {max(free, 0)} are left"
    what += f" of {room.most}; others hold {room.others}" if room.others else f" of {room.most}"
    raise HostError(what, where, "lower database.pool (or POOL_SIZE), or let the server take more, and push again")


def _connect_as_app(work: Work, wanted: Cluster) -> None:
    """Connect as the app will: its user, in its confinement, through the socket. Raises HostError."""
    app, log = work.app, work.app.record(work.release) / "settings.log"
    argv = [psql(app), "-XAtq", "-h", app.cluster_socket, "-U", wanted.user, "-d", wanted.name, "-c", "SELECT 1"]
    if release_command.run(work, "settings", [str(part) for part in argv], log, LONGEST) != 0:
        said = cluster.error_line(log.read_text(errors="replace"))
        fix = "deploy provision writes pg_hba.conf and pg_ident.conf as they have to be; then push again"
        raise HostError(f"{wanted.user} cannot connect to its database: {said}", str(app.cluster_socket), fix)


def psql(app: App) -> Path:
    """The program itself: the app's user may not pass through the directory of the link."""
    return app.cluster_bin.resolve() / "psql"
