"""PostgreSQL's side of a restore.

The archive has the whole cluster: it is restored into another directory, recovered to the instant and checked while the
app serves; then the data directories are swapped. A dump has one database: it is loaded as a second database of the
live cluster; then the databases are renamed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from hostctl.backup import restore_points, state
from hostctl.backup.recovery_target import (
    broken_data_error,
    compare_rows,
    record_kept_data,
    requested,
    target_time,
)
from hostctl.common import files
from hostctl.common.documents import DataSource
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, file_digest
from hostctl.common.names import matches
from hostctl.common.timestamps import utc
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.journal.engine import Work
from hostctl.postgres.archive import epoch_branch, pgbackrest, replication, timelines
from hostctl.postgres.archive.pgbackrest import Point, PointPosition
from hostctl.postgres.database import data_swap, dumps, inspect, row_counts
from hostctl.postgres.server import cluster, roles, scratch_server
from hostctl.postgres.server.cluster import Server

QUICK = 5.0  # seconds that the server may take to list its databases
KEPT_DATABASES = (
    "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname ~ '_(aside|undone)_' ORDER BY datname"
)

# ---------------------------------------------------------------------------------------------- documents


class Content(TypedDict):
    """What is in a restored database: rows by table, applied migrations, and the range of the numbered rows."""

    tables: dict[str, int]
    versions: list[int]
    canary: list[int]


class RestoredDatabase(Content):
    """A restored database: bytes, seconds of the restore, and whether the WAL reached the requested instant."""

    bytes: int
    seconds: float
    reached: bool


# ---------------------------------------------------------------------------------------------- source


def restorable_range(app: App, host: Host) -> tuple[float, float]:
    """The oldest and the newest instant that can be restored. Raises HostError.

    A running server archives everything before a restore, so its newest instant is now.
    """
    first, last = pgbackrest.restorable_range(app)
    return first, time.time() if cluster.accepts_sessions(cluster.live_server(app)) else last


def row_changes(app: App, data: DataSource) -> Json:
    """The rows of each table now and at a restore point, by database; empty for any other instant."""
    if data["point"] is None:
        return {}
    then: dict[str, dict[str, int]] = restore_points.load(app, data["point"])["tables"]
    now = live_rows(app)
    return {name: compare_rows(now.get(name, {}), rows) for name, rows in then.items()}


def live_rows(app: App) -> dict[str, dict[str, int]]:
    """The rows of each table of the live database; empty when the server does not run."""
    server, name = cluster.live_server(app), cluster.require(app).name
    return {name: row_counts.rows(server, name)} if cluster.accepts_sessions(server) else {}


def _dump(app: App, data: DataSource) -> Path | None:
    """The dump to load: an uploaded file, or a restore point's from before there was a backup; None for the archive.

    Raises HostError for a damaged dump of a restore point.
    """
    if "file" in data:
        return Path(data["file"])
    point = data["point"]
    if point is None:
        return None
    for name, copy in restore_points.load(app, point)["files"].items():
        path = app.points / point / name
        if file_digest(path) != copy["sha256"]:
            what = "the restore point's dump is damaged: its SHA-256 differs from the recorded one"
            raise HostError(what, str(path), "deploy rollback rolls the code back without the data")
        return path
    return None


def _point(app: App, data: DataSource) -> Point | None:
    """The position of a restore point in the WAL; None for an instant."""
    if data["point"] is None:
        return None
    point = restore_points.load(app, data["point"])
    assert point["position"] is not None  # noqa: S101 - a point of a cluster has a position or a dump
    position = cast(PointPosition, point["position"])
    return Point(position["name"], point["at"], position["epoch"], position["timeline"], position["lsn"])


# ---------------------------------------------------------------------------------------------- fetch


def fetch(work: Work) -> str:
    """The step: restore the data into another directory or database, and check it, while the app serves."""
    app, started = work.app, work.host.clock()
    file = _dump(app, requested(work))
    restored = _load(work, file) if file else _restore(work)
    name = cluster.require(app).name
    changes = compare_rows(live_rows(app).get(name, {}), restored["tables"])
    work.journal.set(names=[name], tables={name: changes})
    if file is None:
        # the checkpoint now makes that of the shutdown short, while the edge holds requests
        _checkpoint(app)
    seconds = work.host.clock() - started
    summary = f"{restored['bytes'] / 1e6:.1f} MB, {sum(restored['tables'].values())} rows, complete, in {seconds:.1f} s"
    return f"{name} of {utc(target_time(requested(work)))}: {summary}"


def _checkpoint(app: App) -> None:
    server = cluster.live_server(app)
    if cluster.accepts_sessions(server):
        cluster.administer(server, "CHECKPOINT", timeout=row_counts.PATIENCE)


def _restore(work: Work) -> RestoredDatabase:
    restored = _restore_cluster(work.app, requested(work), _fetched_directory(work.app), work.host, live=True)
    if not restored["reached"]:
        work.note("the WAL ends before that instant: later writes had not arrived on S3")
    return restored


def _load(work: Work, file: Path) -> RestoredDatabase:
    """Load the dump as a second database of the live cluster."""
    app, config, started = work.app, cluster.require(work.app), work.host.clock()
    server, name = cluster.live_server(app), _loaded_name(work)
    dumps.load(server, config, file, name)
    content = _inspect(server, name)
    if "file" in requested(work):
        files.unlink(file)  # it was uploaded for this transition only
    size, seconds = row_counts.size(server, name), round(work.host.clock() - started, 3)
    return {**content, "bytes": size, "seconds": seconds, "reached": True}


def _loaded_name(work: Work) -> str:
    return data_swap.fit_name(cluster.require(work.app).name, "_loaded")


def _fetched_directory(app: App) -> Path:
    return app.cluster / "fetched"


def discard_fetched(work: Work) -> None:
    """The undo of `fetch`."""
    _remove(work.app, work.host, _fetched_directory(work.app))
    if _is_dump(work):
        cluster.start(work.app, work.host)
        dumps.drop_database(cluster.live_server(work.app), _loaded_name(work))


def _is_dump(work: Work) -> bool:
    """Whether the transition renames databases instead of swapping data directories."""
    data = requested(work)
    return "file" in data or (data["point"] is not None and bool(restore_points.load(work.app, data["point"])["files"]))


def _remove(app: App, host: Host, directory: Path) -> None:
    scratch_server.remove_leftovers(app, host, directory)
    files.remove_tree(directory)


def restore_into(app: App, data: DataSource, into: Path, host: Host) -> Json:
    """Restore the data into a cluster below `into`, and check it. Raises HostError."""
    return {cluster.require(app).name: _restore_cluster(app, data, into, host, live=False)}


def _restore_cluster(
    app: App, data: DataSource, into: Path, host: Host, live: bool, dump: Path | None = None
) -> RestoredDatabase:
    """Restore a cluster into a directory, recover it, and check it. Raises HostError.

    `live`: the data becomes the live data; `dump`: a new file for a dump of the database.
    """
    started, config = host.clock(), cluster.require(app)
    _flush(app, host)
    _remove(app, host, into)
    disk.require_space(app.cluster, disk.used_space(app.cluster_data), "the restored data")
    restored = pgbackrest.restore(app, into, data["at"] if data["point"] is None else None, _point(app, data))
    with scratch_server.recovered(app, host, into, restored.settings, archive=live) as (server, reached):
        roles.converge(server, config)  # the backup may be from before they were
        content = _inspect(server, config.name)
        if dump is not None:
            dumps.dump(server, config.name, dump)
    seconds = round(host.clock() - started, 3)
    return {**content, "reached": reached, "bytes": disk.used_space(into), "seconds": seconds}


def _flush(app: App, host: Host) -> None:
    """Write a row that is later than the target, and archive everything."""
    server = cluster.live_server(app)
    if cluster.accepts_sessions(server):
        inspect.write_canary(server, cluster.require(app))
        replication.archive_all(app, host)


def _inspect(server: Server, name: str) -> Content:
    """The content of a restored database. Raises HostError when it has gaps."""
    numbered = row_counts.canary(server, name)
    if numbered.missing:
        raise broken_data_error(name, f"has gaps: {numbered.missing} of hostctl's numbered rows are missing")
    versions = list(inspect.migrations(server, name))
    return {"tables": row_counts.rows(server, name), "versions": versions, "canary": list(numbered)}


# ---------------------------------------------------------------------------------------------- replacement


def replace(work: Work) -> str:
    """The step: the fetched data replaces the app's, which is kept."""
    stopped = time.time()
    kept = _rename(work) if _is_dump(work) else _swap(work)
    return record_kept_data(work, stopped, kept, work.journal.content["tables"])


def _swap(work: Work) -> str:
    """Swap the data directories; returns where the old one is.

    The WAL continues in a new timeline of the same archive; for another system it goes into a new epoch.
    """
    app, host, at = work.app, work.host, target_time(requested(work))
    state.pause(app, "hostctl replaces the data")
    other_system = epoch_branch.is_other_system(app, _fetched_directory(app))
    cluster.stop(app, host)
    data_swap.swap(app.cluster_data, _fetched_directory(app), _kept_directory(work))
    if other_system:
        epoch_branch.begin(work, f"{work.verb} to {utc(at)}")
        _resume(work)
        epoch_branch.switch(work, at)
    else:
        state.resume(app)
        _resume(work)
        timelines.record_live(app, at)
    return str(_kept_directory(work) / "old")


def confirm(work: Work) -> None:
    """The app is healthy on the new data: it is current from now on."""
    epoch_branch.confirm(work)


def _resume(work: Work) -> None:
    """Start the server on its data directory, with the programs of the data's major version."""
    app = work.app
    cluster.use_version(app, cluster.data_major(app.cluster_data))
    if work.booting:
        work.host.systemd.start(app.cluster_unit)
    else:
        cluster.start(app, work.host)


def _rename(work: Work) -> str:
    """Rename the databases of the live cluster; returns where the old data is. The archive stays the same."""
    name, old = cluster.require(work.app).name, _old_name(work)
    data_swap.rename(cluster.live_server(work.app), {name: old, _loaded_name(work): name})
    return f"the database {old}"


def _old_name(work: Work) -> str:
    return data_swap.fit_name(cluster.require(work.app).name, f"_aside_{work.journal.id}")


def _undone_name(work: Work) -> str:
    return data_swap.fit_name(cluster.require(work.app).name, f"_undone_{work.journal.id}")


def kept_data(app: App) -> Mapping[str, int]:
    """The databases that a loaded one replaced, and loaded ones that an undo replaced: bytes, by name.

    Raises HostError when the server does not answer.
    """
    name = cluster.require(app).name
    databases = cluster.query(cluster.live_server(app), KEPT_DATABASES, timeout=QUICK)
    return {kept: int(size) for kept, size in databases if _is_kept(kept, name)}


def _is_kept(database: str, name: str) -> bool:
    """Whether a database has a name that a transition gave to the database `name`."""
    stem, _, identifier = database.rpartition("_")
    suffix = next((f"{end}_{identifier}" for end in ("_aside", "_undone") if stem.endswith(end)), "")
    return bool(suffix) and matches("transition", identifier) and database == data_swap.fit_name(name, suffix)


def delete_kept_data(app: App, name: str) -> None:
    """Delete one of `kept_data`. Raises HostError."""
    dumps.drop_database(cluster.live_server(app), name)


def _kept_directory(work: Work) -> Path:
    """The directory of the data that the transition replaces."""
    return work.app.cluster / "aside" / work.journal.id


def put_back(work: Work) -> None:
    """The undo of `replace`: the old data is live again. What the new data received since the flip is kept."""
    if _is_dump(work):
        _rename_back(work)
    else:
        _swap_back(work)


def _swap_back(work: Work) -> None:
    app, kept = work.app, _kept_directory(work)
    if data_swap.is_swapped(kept):
        state.pause(app, "hostctl puts the data back")
        work.host.systemd.stop(app.cluster_unit)
        data_swap.swap_back(app.cluster_data, kept)
    moved = epoch_branch.revert(work)
    state.resume(app)
    _resume(work)
    if moved is not None and not work.booting:
        epoch_branch.switch(work)
    elif not work.booting:
        timelines.record_live(app)
    if "flip" not in work.journal.begun:
        files.remove_tree(kept)


def _rename_back(work: Work) -> None:
    app, server = work.app, cluster.live_server(work.app)
    cluster.start(app, work.host)
    data_swap.rename_back(server, cluster.require(app).name, _old_name(work), _undone_name(work))
    if "flip" not in work.journal.begun:
        dumps.drop_database(server, _undone_name(work))


# ---------------------------------------------------------------------------------------------- without a transition


def scratch_directory(app: App) -> Path:
    """The directory for data that is restored only to inspect it."""
    return app.cluster / "scratch"


def extract(app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
    """Restore the database as a dump below `into`; returns the dump, and what is in it. Raises HostError."""
    own_name = cluster.require(app).name
    if name not in (None, own_name):
        raise HostError(f"there is no database {name}", "database in deploy.yml", f"it is {own_name}", USAGE)
    # the dump lies beside the data, which is a directory of the user postgres
    cluster_directory, target = into / "cluster", into / "database.dump"
    for directory in (cluster_directory, into):
        _remove(app, host, directory)
    files.make_directory(into, 0o711)
    database = _restore_cluster(app, data, cluster_directory, host, live=False, dump=target)
    return target, {"name": f"{own_name}.dump", **database}
