"""What a push asks of PostgreSQL: whether it will bear the release, a restore point, and care around migrations."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

from hostctl.backup import epochs, restore_points, settings
from hostctl.common.files import Json, file_digest
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.journal.engine import Work
from hostctl.postgres import connections_check, migrate
from hostctl.postgres.database import dumps, inspect, row_counts
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Cluster, Server

# the time before the point: whatever was acknowledged until then is in it
NAMED = (
    "SELECT extract(epoch FROM clock_timestamp()), "
    "pg_create_restore_point(:'name'), pg_walfile_name(pg_current_wal_lsn())"
)


def check_release(work: Work) -> str | None:
    """Whether the server will bear the new release."""
    return connections_check.check(work)


def cancel_check(work: Work) -> None:
    """The undo of `check`."""
    connections_check.cancel(work)


def around_migrations(work: Work) -> AbstractContextManager[None]:
    """Locks with a limit, and a look at the indexes afterwards."""
    return migrate.around(work)


def applied_migrations(app: App) -> set[int] | None:
    """The versions that the database names as migrated; None without any. Raises HostError."""
    return set(inspect.migrations(cluster.live_server(app), cluster.require(app).name)) or None


# ---------------------------------------------------------------------------------------------- restore point


def no_point_reason(app: App) -> str | None:
    """Why no restore point is needed; None when one is."""
    return None if settings.has_data(app) else "none: there is no database yet"


def take_restore_point(work: Work, directory: Path) -> tuple[Json, str]:
    """Name this instant in the log, which the archive has; without a backup make a dump. Raises HostError."""
    app, wanted, server = work.app, cluster.require(work.app), cluster.live_server(work.app)
    counted = row_counts.rows(server, wanted.name)
    told: Json = {"tables": {wanted.name: counted}, "versions": list(inspect.migrations(server, wanted.name))}
    mine = epochs.local(app) if wanted.backup else None
    if mine is None:
        return told | _dumped(app, wanted, server, directory), f"no backup: {wanted.name} was dumped"
    at, lsn, file = cluster.query(server, NAMED, bound={"name": work.journal.id})[0]
    position = {"epoch": mine.epoch, "name": work.journal.id, "timeline": int(file[:8], 16), "lsn": lsn}
    line = f"{wanted.name} at {lsn}: {sum(counted.values())} rows in {len(counted)} tables"
    return told | {"files": {}, "position": position, "at": float(at)}, line


def _dumped(app: App, wanted: Cluster, server: Server, directory: Path) -> Json:
    need = row_counts.size(server, wanted.name) + restore_points.RESERVE
    disk.require_space(app.points, need, "a copy of the database")
    at = time.time()
    path = dumps.dump(server, wanted.name, directory / f"{wanted.name}.dump")
    kept = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    return {"files": {path.name: kept}, "position": None, "at": at}
