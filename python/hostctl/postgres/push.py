"""PostgreSQL's side of a push: the check before it, restore points, and the limits of migrations."""

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
from hostctl.postgres.archive.pgbackrest import PointPosition
from hostctl.postgres.database import dumps, inspect, row_counts
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Cluster, Server

# the time is read before the point is created, so everything that was committed until then precedes the point
CREATE_POINT = (
    "SELECT extract(epoch FROM clock_timestamp()), "
    "pg_create_restore_point(:'name'), pg_walfile_name(pg_current_wal_lsn())"
)


def check_release(work: Work) -> str | None:
    """Check that the server can serve the new release. Raises HostError."""
    return connections_check.check_release(work)


def cancel_check(work: Work) -> None:
    """The undo of `check_release`."""
    connections_check.cancel_check(work)


def around_migrations(work: Work) -> AbstractContextManager[None]:
    """A context with a limit for waits for locks, and a report of invalid indexes at its end."""
    return migrate.around_migrations(work)


def applied_migrations(app: App) -> set[int] | None:
    """The versions of the applied migrations; None without any. Raises HostError."""
    return set(inspect.migrations(cluster.live_server(app), cluster.require(app).name)) or None


# ---------------------------------------------------------------------------------------------- restore point


def no_point_reason(app: App) -> str | None:
    """Why no restore point is needed; None when one is."""
    return None if settings.has_data(app) else "none: there is no database yet"


def take_restore_point(work: Work, directory: Path) -> tuple[Json, str]:
    """Create a named restore point in the WAL; without a backup make a dump instead. Raises HostError."""
    app, config, server = work.app, cluster.require(work.app), cluster.live_server(work.app)
    rows = row_counts.rows(server, config.name)
    document: Json = {"tables": {config.name: rows}, "versions": list(inspect.migrations(server, config.name))}
    own_epoch = epochs.local(app) if config.backup else None
    if own_epoch is None:
        return document | _dump(app, config, server, directory), f"no backup: {config.name} was dumped"
    at, lsn, file = cluster.administer(server, CREATE_POINT, bound={"name": work.journal.id})[0]
    position: PointPosition = {
        "epoch": own_epoch.epoch,
        "name": work.journal.id,
        "timeline": int(file[:8], 16),
        "lsn": lsn,
    }
    line = f"{config.name} at {lsn}: {sum(rows.values())} rows in {len(rows)} tables"
    return document | {"files": {}, "position": position, "at": float(at)}, line


def _dump(app: App, config: Cluster, server: Server, directory: Path) -> Json:
    """Dump the database; returns the keys of a restore point without a position."""
    need = row_counts.size(server, config.name) + restore_points.RESERVE
    disk.require_space(app.points, need, "a copy of the database")
    at = time.time()
    path = dumps.dump(server, config.name, directory / f"{config.name}.dump")
    copy = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    return {"files": {path.name: copy}, "position": None, "at": at}
