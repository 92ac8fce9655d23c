"""Creation of an app's cluster."""

from __future__ import annotations

from hostctl.common.errors import HostError
from hostctl.common.files import sync_directory
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.server import roles, scratch_server
from hostctl.postgres.server.cluster import (
    VERSIONS,
    initdb,
    installed_majors,
    make_postgres_directory,
    require,
    sync,
    use_version,
)


def create(app: App, host: Host) -> bool:
    """Create the app's cluster with its role and its empty database; False when there is a cluster already.

    The cluster has checksums and the locale C.UTF-8. It is renamed to its place once it is complete.

    Raises HostError.
    """
    config, new_data = require(app), app.cluster / "data.new"
    if app.cluster_data.exists():
        return False
    majors = installed_majors()
    if not majors:
        raise HostError("no PostgreSQL server is installed", str(VERSIONS), "deploy provision")
    use_version(app, majors[-1])
    scratch_server.remove_leftovers(app, host, new_data)
    make_postgres_directory(new_data)
    initdb(app.cluster_bin, new_data)
    # not by `postgres --single`, which assigns object ids of the system's range: pg_upgrade would meet them again
    with scratch_server.server(app, host, new_data, archive=True) as server:
        roles.create(server, config)
    sync(app.cluster_bin, new_data)
    new_data.replace(app.cluster_data)
    sync_directory(app.cluster)
    return True
