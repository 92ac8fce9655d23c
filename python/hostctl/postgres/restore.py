"""PostgreSQL's data of another instant. What `restore` asks of this engine.

From the archive the whole cluster comes back: it is restored beside the live one, recovered to the instant and looked
into, while the app serves; then the data directories change places. From a dump one database comes back, made beside
the live one in the same cluster; then the databases change names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

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
from hostctl.postgres.archive.pgbackrest import Point
from hostctl.postgres.database import data_swap, dumps, inspect, row_counts
from hostctl.postgres.server import cluster, scratch_server
from hostctl.postgres.server.cluster import Server

QUICK = 5.0  # seconds that the server may take for its list of databases
KEPT = "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname ~ '_(aside|undone)_' ORDER BY datname"

# ---------------------------------------------------------------------------------------------- what to bring back


def restorable_range(app: App, host: Host) -> tuple[float, float]:
    """The oldest and the newest instant that can be restored. Raises HostError.

    A server that runs is asked for all that it has before a restore, so the newest is now.
    """
    first, last = pgbackrest.restorable_range(app)
    return first, time.time() if cluster.accepts_sessions(cluster.live_server(app)) else last


def row_changes(app: App, data: DataSource) -> Json:
    """The rows of each table now and then; empty for what only the archive knows."""
    if data["point"] is None:
        return {}
    then: dict[str, dict[str, int]] = restore_points.load(app, data["point"])["tables"]
    held = live_rows(app)
    return {name: compare_rows(held.get(name, {}), rows) for name, rows in then.items()}


def live_rows(app: App) -> dict[str, dict[str, int]]:
    """The rows of each table of the live database; nothing when the server does not run."""
    server, name = cluster.live_server(app), cluster.require(app).name
    return {name: row_counts.rows(server, name)} if cluster.accepts_sessions(server) else {}


def _dump(app: App, data: DataSource) -> Path | None:
    """The dump that a person loads, or that a point of before there was a backup kept; None for the archive."""
    if "file" in data:
        return Path(data["file"])
    point = data["point"]
    if point is None:
        return None
    for name, kept in restore_points.load(app, point)["files"].items():
        path = app.points / point / name
        if file_digest(path) != kept["sha256"]:
            what = "the restore point's dump is not what was written: the disk has changed it"
            raise HostError(what, str(path), "deploy rollback takes the code back without the data")
        return path
    return None


def _point(app: App, data: DataSource) -> Point | None:
    """Where in the log a restore point is."""
    if data["point"] is None:
        return None
    found = restore_points.load(app, data["point"])
    at = found["position"]
    assert at is not None  # noqa: S101 - a point of a cluster is a position in its log, or a dump
    return Point(at["name"], found["at"], at["epoch"], at["timeline"], at["lsn"])


# ---------------------------------------------------------------------------------------------- fetch


def fetch(work: Work) -> str:
    """The step: fetch the data beside the live data, and check it, while the app serves."""
    app, begun = work.app, work.host.clock()
    file = _dump(app, requested(work))
    found = _loaded(work, file) if file else _restored(work)
    name = cluster.require(app).name
    counted = compare_rows(live_rows(app).get(name, {}), found["tables"])
    work.journal.set(names=[name], tables={name: counted})
    if file is None:
        # what is written now need not be written while the edge holds requests
        _checkpoint(app)
    seconds = work.host.clock() - begun
    told = f"{found['bytes'] / 1e6:.1f} MB, {sum(found['tables'].values())} rows, whole, in {seconds:.1f} s"
    return f"{name} of {utc(target_time(requested(work)))}: {told}"


def _checkpoint(app: App) -> None:
    server = cluster.live_server(app)
    if cluster.accepts_sessions(server):
        cluster.query(server, "CHECKPOINT", timeout=row_counts.PATIENCE)


def _restored(work: Work) -> Json:
    found = _brought(work.app, requested(work), _fetched(work.app), work.host, live=True)
    if not found["reached"]:
        work.note("the log ends before that instant: nothing that was written later had arrived there")
    return found


def _loaded(work: Work, file: Path) -> Json:
    """The dump as a second database of the live cluster."""
    app, known, begun = work.app, cluster.require(work.app), work.host.clock()
    server, name = cluster.live_server(app), _second(work)
    dumps.load(server, known, file, name)
    told = _seen(server, name)
    if "file" in requested(work):
        files.unlink(file)  # it was a copy for this transition alone
    return told | {"bytes": row_counts.size(server, name), "seconds": round(work.host.clock() - begun, 3)}


def _second(work: Work) -> str:
    return data_swap.fit_name(cluster.require(work.app).name, "_loaded")


def _fetched(app: App) -> Path:
    return app.cluster / "fetched"


def discard_fetched(work: Work) -> None:
    """The undo of `fetch`."""
    _remove(_fetched(work.app))
    if _of_dump(work):
        cluster.start(work.app, work.host)
        dumps.drop_database(cluster.live_server(work.app), _second(work))


def _of_dump(work: Work) -> bool:
    """Whether the transition exchanges databases, not data directories."""
    data = requested(work)
    return "file" in data or (data["point"] is not None and bool(restore_points.load(work.app, data["point"])["files"]))


def _remove(directory: Path) -> None:
    scratch_server.remove_leftovers(directory)
    files.remove_tree(directory)


def restore_into(app: App, data: DataSource, into: Path, host: Host) -> Json:
    """The data of `data` in a cluster below `into`, checked. Raises HostError."""
    return {cluster.require(app).name: _brought(app, data, into, host, live=False)}


def _brought(app: App, data: DataSource, into: Path, host: Host, live: bool, dump: Path | None = None) -> Json:
    """Restore into a directory, recover, look; `live`: the data is to become the live server's; `dump`: a new file to
    dump the database into.
    """
    begun, known = host.clock(), cluster.require(app)
    _flush(app, host)
    _remove(into)
    disk.require_space(app.cluster, _size(app.cluster_data), "the restored data")
    restored = pgbackrest.restore(app, into, data["at"] if data["point"] is None else None, _point(app, data))
    with scratch_server.recovered(app, into, restored.settings, archive=live) as (server, reached):
        found = _seen(server, known.name)
        if dump is not None:
            dumps.dump(server, known.name, dump)
    return found | {"reached": reached, "bytes": _size(into), "seconds": round(host.clock() - begun, 3)}


def _flush(app: App, host: Host) -> None:
    """Everything that was written is in the archive, and a row that is later than any wanted instant."""
    server = cluster.live_server(app)
    if cluster.accepts_sessions(server):
        inspect.write_canary(server, cluster.require(app))
        replication.archive_all(app, host)


def _seen(server: Server, name: str) -> Json:
    """What is in a database that was brought back. Raises HostError unless it is whole."""
    numbered = row_counts.canary(server, name)
    if numbered.missing:
        raise broken_data_error(name, f"has gaps: {numbered.missing} of hostctl's numbered rows are missing")
    told: Json = {"tables": row_counts.rows(server, name), "versions": list(inspect.migrations(server, name))}
    return told | {"canary": list(numbered)}


def _size(directory: Path) -> int:
    """Bytes on disk of what is below a directory, in which files come and go."""
    found = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                found += Path(root, name).lstat().st_blocks * 512
    return found


# ---------------------------------------------------------------------------------------------- data


def replace(work: Work) -> str:
    """The step: the fetched data replaces the app's, which is kept."""
    stopped = time.time()
    place = _rename(work) if _of_dump(work) else _exchange(work)
    return record_kept_data(work, stopped, place, work.journal.content["tables"])


def _exchange(work: Work) -> str:
    """Whole data directories. The log goes on in a new timeline of the same archive, or in an archive of its own."""
    app, host, at = work.app, work.host, target_time(requested(work))
    state.pause(app, "hostctl exchanges the data")
    apart = epoch_branch.is_other_system(app, _fetched(app))
    cluster.stop(app, host)
    data_swap.swap(app.cluster_data, _fetched(app), _aside(work))
    if apart:
        epoch_branch.begin(work, f"{work.verb} to {utc(at)}")
        _resume(work)
        epoch_branch.switch(work, at)
    else:
        state.resume(app)
        _resume(work)
        timelines.record_live(app, at)
    return str(_aside(work) / "old")


def confirm(work: Work) -> None:
    """The app is healthy on the new data: it is what a lost host gets back from now on."""
    epoch_branch.confirm(work)


def _resume(work: Work) -> None:
    """The server runs on the data that is in its place, by the programs which that data wants."""
    app = work.app
    cluster.use_version(app, cluster.data_major(app.cluster_data))
    if work.booting:
        work.host.systemd.start(app.cluster_unit)
    else:
        cluster.start(app, work.host)


def _rename(work: Work) -> str:
    """Databases of the live cluster. The archive goes on as it was."""
    name, old = cluster.require(work.app).name, _old(work)
    data_swap.rename(cluster.live_server(work.app), {name: old, _second(work): name})
    return f"the database {old}"


def _old(work: Work) -> str:
    return data_swap.fit_name(cluster.require(work.app).name, f"_aside_{work.journal.id}")


def _undone(work: Work) -> str:
    return data_swap.fit_name(cluster.require(work.app).name, f"_undone_{work.journal.id}")


def kept_data(app: App) -> Mapping[str, int]:
    """Databases that a loaded one took the place of, and those that were taken back: bytes, by name. Raises HostError
    when the server cannot be asked.
    """
    name = cluster.require(app).name
    found = cluster.query(cluster.live_server(app), KEPT, timeout=QUICK)
    return {one: int(size) for one, size in found if _gave_way(one, name)}


def _gave_way(found: str, name: str) -> bool:
    way, _, identifier = found.rpartition("_")
    suffix = next((f"{end}_{identifier}" for end in ("_aside", "_undone") if way.endswith(end)), "")
    return bool(suffix) and matches("transition", identifier) and found == data_swap.fit_name(name, suffix)


def delete_kept_data(app: App, name: str) -> None:
    """Delete one of `kept`, for good. Raises HostError."""
    dumps.drop_database(cluster.live_server(app), name)


def _aside(work: Work) -> Path:
    """Where data directories that were given up lie."""
    return work.app.cluster / "aside" / work.journal.id


def put_back(work: Work) -> None:
    """The undo of `replace`: the old data is live again. What the new data received since the flip is kept."""
    if _of_dump(work):
        _rename_back(work)
    else:
        _exchange_back(work)


def _exchange_back(work: Work) -> None:
    app, aside = work.app, _aside(work)
    if data_swap.is_swapped(aside):
        state.pause(app, "hostctl puts the data back")
        work.host.systemd.stop(app.cluster_unit)
        data_swap.swap_back(app.cluster_data, aside)
    moved = epoch_branch.revert(work)
    state.resume(app)
    _resume(work)
    if moved is not None and not work.booting:
        epoch_branch.switch(work)
    elif not work.booting:
        timelines.record_live(app)
    if "flip" not in work.journal.begun:
        files.remove_tree(aside)


def _rename_back(work: Work) -> None:
    app, server = work.app, cluster.live_server(work.app)
    cluster.start(app, work.host)
    data_swap.rename_back(server, cluster.require(app).name, _old(work), _undone(work))
    if "flip" not in work.journal.begun:
        dumps.drop_database(server, _undone(work))


# ---------------------------------------------------------------------------------------------- without the app


def scratch_directory(app: App) -> Path:
    """Where data is brought to for a look at it."""
    return app.cluster / "scratch"


def extract(app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
    """The database of `data` as a dump below `into`, and what was seen of it. Raises HostError."""
    known = cluster.require(app).name
    if name not in (None, known):
        raise HostError(f"there is no database {name}", "database in deploy.yml", f"it is {known}", USAGE)
    target = into / "database.dump"
    found = _brought(app, data, into, host, live=False, dump=target)
    return target, {"name": f"{known}.dump", **found}
