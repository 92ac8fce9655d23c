"""The first cluster of an app."""

from __future__ import annotations

from hostctl.common.errors import HostError
from hostctl.common.files import sync_directory
from hostctl.core.paths import App
from hostctl.postgres import scratch_server
from hostctl.postgres.cluster import ROLE, VERSIONS, furnish, initdb, majors, make_owned, query, require, sync, use


def create(app: App) -> bool:
    """Make the app's cluster with its role and its empty database; returns whether there was none.

    With checksums and in C.UTF-8. Made beside and renamed, so a cluster that is there is whole. Raises HostError.
    """
    wanted, part = require(app), app.cluster / "data.new"
    if app.cluster_data.exists():
        return False
    installed = majors()
    if not installed:
        raise HostError("no PostgreSQL server is installed", str(VERSIONS), "deploy provision")
    use(app, installed[-1])
    scratch_server.clear(part)
    make_owned(part)
    initdb(app.cluster_bin, part)
    # not by `postgres --single`: what is made there gets numbers of the system's own, and pg_upgrade meets them again
    with scratch_server.server(app, part, archive=True) as server:
        query(server, ROLE, bound={"user": wanted.user, "name": wanted.name})
        furnish(server, wanted, wanted.name)
    sync(app.cluster_bin, part)
    part.replace(app.cluster_data)
    sync_directory(app.cluster)
    return True
