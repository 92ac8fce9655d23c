"""SQLite's side of `hostctl APP remove`: the final backup of the files, and their deletion."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hostctl.backup import settings, state
from hostctl.backup.settings import Database
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.boundary import handles, trees
from hostctl.host.host import Host
from hostctl.sqlite import backup
from hostctl.sqlite.database import file_swap
from hostctl.sqlite.stream import replication


def databases(app: App, _: Host) -> list[Json]:
    """`name`, `path` and `bytes` of each file. Raises HostError (usage)."""
    databases = settings.require(app).databases
    return [{"name": each.name, "path": str(each.path), "bytes": _size(each)} for each in databases]


def _size(database: Database) -> int:
    """Bytes of a file; 0 where the app has put a link on the way to it, which must not keep the app on the host."""
    try:
        return database.size
    except HostError:
        return 0


def snapshot(app: App, host: Host) -> None:
    """Send a snapshot to S3 while the app serves. Raises HostError.

    Files that an earlier removal kept are not replicated yet: `finish` sends what S3 lacks of them.
    """
    if host.systemd.show(app.stream_unit)[0].runs:
        backup.run(app, host)


def finish(app: App, host: Host) -> None:
    """Send everything that was written to S3, check that it is there, and stop Litestream. Raises HostError."""
    replication.pause(app, host)


def stop(app: App, host: Host) -> None:
    """Stop Litestream. Raises HostError."""
    state.pause(app, "the app is being removed")
    host.systemd.stop(app.stream_unit)


def resume(app: App, host: Host) -> None:
    """Start Litestream again. Raises HostError."""
    replication.resume(app, host)


def delete(app: App) -> None:
    """Delete the files and their sidecars. Raises HostError (usage)."""
    for database in settings.require(app).databases:
        with _passing_links(), handles.owned(database.directory) as directory:
            for name in (database.name, *file_swap.sidecar_names(database.name)):
                trees.remove(directory, name)


@contextmanager
def _passing_links() -> Iterator[None]:
    """Ends the block where nothing is, or where a link leads elsewhere: there is no data of the app's."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
