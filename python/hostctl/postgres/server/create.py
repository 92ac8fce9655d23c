"""The first cluster of an app."""

from __future__ import annotations

from hostctl.common.errors import HostError
from hostctl.common.files import sync_directory
from hostctl.core.paths import App
from hostctl.postgres.server import scratch_server
from hostctl.postgres.server.cluster import (
    ROLE,
    VERSIONS,
    create_canary_table,
    initdb,
    installed_majors,
    make_postgres_directory,
    query,
    require,
    sync,
    use_version,
)


def create(app: App) -> bool:
    """Make the app's cluster with its role and its empty database; returns whether there was none.

    With checksums and in C.UTF-8. Made beside and renamed, so a cluster that is there is whole. Raises HostError.
    """
    wanted, part = require(app), app.cluster / "data.new"
    if app.cluster_data.exists():
        return False
    installed = installed_majors()
    if not installed:
        raise HostError("no PostgreSQL server is installed", str(VERSIONS), "deploy provision")
    use_version(app, installed[-1])
    scratch_server.remove_leftovers(part)
    make_postgres_directory(part)
    initdb(app.cluster_bin, part)
    # not by `postgres --single`: what is made there gets numbers of the system's own, and pg_upgrade meets them again
    with scratch_server.server(app, part, archive=True) as server:
        query(server, ROLE, bound={"user": wanted.user, "name": wanted.name})
        create_canary_table(server, wanted, wanted.name)
    sync(app.cluster_bin, part)
    part.replace(app.cluster_data)
    sync_directory(app.cluster)
    return True
