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
from hostctl.backup.recovery_target import broken, compared, given_up, instant, room, wanted
from hostctl.common import files
from hostctl.common.documents import DataSource
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, file_digest
from hostctl.common.names import matches
from hostctl.common.timestamps import utc
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal.steps import Work
from hostctl.postgres import (
    cluster,
    data_swap,
    dumps,
    epoch_branch,
    inspect,
    pgbackrest,
    replication,
    row_counts,
    scratch_server,
    timelines,
)
from hostctl.postgres.cluster import Server
from hostctl.postgres.pgbackrest import Point

QUICK = 5.0  # seconds that the server may take for its list of databases
KEPT = "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname ~ '_(aside|undone)_' ORDER BY datname"

# ---------------------------------------------------------------------------------------------- what to bring back


def reach(app: App, host: Host) -> tuple[float, float]:
    """The oldest and the newest instant that can be restored. Raises HostError.

    A server that runs is asked for all that it has before a restore, so the newest is now.
    """
    first, last = pgbackrest.reach(app)
    return first, time.time() if cluster.accepts(cluster.live(app)) else last


def counted(app: App, data: DataSource) -> Json:
    """The rows of each table now and then; empty for what only the archive knows."""
    if data["point"] is None:
        return {}
    then: dict[str, dict[str, int]] = restore_points.load(app, data["point"])["tables"]
    held = now(app)
    return {name: compared(held.get(name, {}), rows) for name, rows in then.items()}


def now(app: App) -> dict[str, dict[str, int]]:
    """The rows of each table of the live database; nothing when the server does not run."""
    server, name = cluster.live(app), cluster.require(app).name
    return {name: row_counts.rows(server, name)} if cluster.accepts(server) else {}


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
    """The step: bring the data beside, whole and checked, while the app serves."""
    app, begun = work.app, work.host.clock()
    file = _dump(app, wanted(work))
    found = _loaded(work, file) if file else _restored(work)
    name = cluster.require(app).name
    counted = compared(now(app).get(name, {}), found["tables"])
    work.journal.set(names=[name], tables={name: counted})
    if file is None:
        # what is written now need not be written while the edge holds requests
        _checkpoint(app)
    seconds = work.host.clock() - begun
    told = f"{found['bytes'] / 1e6:.1f} MB, {sum(found['tables'].values())} rows, whole, in {seconds:.1f} s"
    return f"{name} of {utc(instant(wanted(work)))}: {told}"


def _checkpoint(app: App) -> None:
    server = cluster.live(app)
    if cluster.accepts(server):
        cluster.query(server, "CHECKPOINT", timeout=row_counts.PATIENCE)


def _restored(work: Work) -> Json:
    found = _brought(work.app, wanted(work), _fetched(work.app), work.host, live=True)
    if not found["reached"]:
        work.note("the log ends before that instant: nothing that was written later had arrived there")
    return found


def _loaded(work: Work, file: Path) -> Json:
    """The dump as a second database of the live cluster."""
    app, known, begun = work.app, cluster.require(work.app), work.host.clock()
    server, name = cluster.live(app), _second(work)
    dumps.load(server, known, file, name)
    told = _seen(server, name)
    if "file" in wanted(work):
        files.unlink(file)  # it was a copy for this transition alone
    return told | {"bytes": row_counts.size(server, name), "seconds": round(work.host.clock() - begun, 3)}


def _second(work: Work) -> str:
    return data_swap.fitting(cluster.require(work.app).name, "_loaded")


def _fetched(app: App) -> Path:
    return app.cluster / "fetched"


def forget(work: Work) -> None:
    """The undo of fetch."""
    _remove(_fetched(work.app))
    if _of_dump(work):
        cluster.start(work.app, work.host)
        dumps.drop(cluster.live(work.app), _second(work))


def _of_dump(work: Work) -> bool:
    """Whether the transition exchanges databases, not data directories."""
    data = wanted(work)
    return "file" in data or (data["point"] is not None and bool(restore_points.load(work.app, data["point"])["files"]))


def _remove(directory: Path) -> None:
    scratch_server.clear(directory)
    files.remove_tree(directory)


def bring(app: App, data: DataSource, into: Path, host: Host) -> Json:
    """The data of `data` in a cluster below `into`, checked. Raises HostError."""
    return {cluster.require(app).name: _brought(app, data, into, host, live=False)}


def _brought(app: App, data: DataSource, into: Path, host: Host, live: bool, dump: Path | None = None) -> Json:
    """Restore into a directory, recover, look; `live`: the data is to become the live server's; `dump`: a new file to
    dump the database into.
    """
    begun, known = host.clock(), cluster.require(app)
    _flush(app, host)
    _remove(into)
    room(app.cluster, _size(app.cluster_data))
    restored = pgbackrest.restore(app, into, data["at"] if data["point"] is None else None, _point(app, data))
    with scratch_server.recovered(app, into, restored.settings, archive=live) as (server, reached):
        found = _seen(server, known.name)
        if dump is not None:
            dumps.dump(server, known.name, dump)
    return found | {"reached": reached, "bytes": _size(into), "seconds": round(host.clock() - begun, 3)}


def _flush(app: App, host: Host) -> None:
    """Everything that was written is in the archive, and a row that is later than any wanted instant."""
    server = cluster.live(app)
    if cluster.accepts(server):
        inspect.write_canary(server, cluster.require(app))
        replication.flush(app, host)


def _seen(server: Server, name: str) -> Json:
    """What is in a database that was brought back. Raises HostError unless it is whole."""
    numbered = row_counts.canary(server, name)
    if numbered.missing:
        raise broken(name, f"has gaps: {numbered.missing} of hostctl's numbered rows are missing")
    told: Json = {"tables": row_counts.rows(server, name), "versions": list(inspect.versions(server, name))}
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
    """The step: what was fetched takes the place of the app's own, which goes aside."""
    stopped = time.time()
    place = _rename(work) if _of_dump(work) else _exchange(work)
    return given_up(work, stopped, place, work.journal.content["tables"])


def _exchange(work: Work) -> str:
    """Whole data directories. The log goes on in a new timeline of the same archive, or in an archive of its own."""
    app, host, at = work.app, work.host, instant(wanted(work))
    state.pause(app, "hostctl exchanges the data")
    apart = epoch_branch.apart(app, _fetched(app))
    cluster.stop(app, host)
    data_swap.exchange(app.cluster_data, _fetched(app), _aside(work))
    if apart:
        epoch_branch.begin(work, f"{work.verb} to {utc(at)}")
        _resume(work)
        epoch_branch.move(work, at)
    else:
        state.unpause(app)
        _resume(work)
        timelines.settle(app, at)
    return str(_aside(work) / "old")


def counts(work: Work) -> None:
    """The app was found well on its data: it is what a lost host would get back from now on."""
    epoch_branch.counts(work)


def _resume(work: Work) -> None:
    """The server runs on the data that is in its place, by the programs which that data wants."""
    app = work.app
    cluster.use(app, cluster.major(app.cluster_data))
    if work.booting:
        work.host.systemd.start(app.cluster_unit)
    else:
        cluster.start(app, work.host)


def _rename(work: Work) -> str:
    """Databases of the live cluster. The archive goes on as it was."""
    name, old = cluster.require(work.app).name, _old(work)
    data_swap.rename(cluster.live(work.app), {name: old, _second(work): name})
    return f"the database {old}"


def _old(work: Work) -> str:
    return data_swap.fitting(cluster.require(work.app).name, f"_aside_{work.journal.id}")


def _undone(work: Work) -> str:
    return data_swap.fitting(cluster.require(work.app).name, f"_undone_{work.journal.id}")


def kept(app: App) -> Mapping[str, int]:
    """Databases that a loaded one took the place of, and those that were taken back: bytes, by name. Raises HostError
    when the server cannot be asked.
    """
    name = cluster.require(app).name
    found = cluster.query(cluster.live(app), KEPT, timeout=QUICK)
    return {one: int(size) for one, size in found if _gave_way(one, name)}


def _gave_way(found: str, name: str) -> bool:
    way, _, identifier = found.rpartition("_")
    suffix = next((f"{end}_{identifier}" for end in ("_aside", "_undone") if way.endswith(end)), "")
    return bool(suffix) and matches("transition", identifier) and found == data_swap.fitting(name, suffix)


def drop(app: App, name: str) -> None:
    """Delete one of `kept`, for good. Raises HostError."""
    dumps.drop(cluster.live(app), name)


def _aside(work: Work) -> Path:
    """Where data directories that were given up lie."""
    return work.app.cluster / "aside" / work.journal.id


def put_back(work: Work) -> None:
    """The undo of `replace`: the old data where it was. What the new had taken in since the flip is kept aside."""
    if _of_dump(work):
        _rename_back(work)
    else:
        _exchange_back(work)


def _exchange_back(work: Work) -> None:
    app, aside = work.app, _aside(work)
    if data_swap.exchanged(aside):
        state.pause(app, "hostctl puts the data back")
        work.host.systemd.stop(app.cluster_unit)
        data_swap.exchange_back(app.cluster_data, aside)
    moved = epoch_branch.back(work)
    state.unpause(app)
    _resume(work)
    if moved is not None and not work.booting:
        epoch_branch.move(work)
    elif not work.booting:
        timelines.settle(app)
    if "flip" not in work.journal.begun:
        files.remove_tree(aside)


def _rename_back(work: Work) -> None:
    app, server = work.app, cluster.live(work.app)
    cluster.start(app, work.host)
    data_swap.rename_back(server, cluster.require(app).name, _old(work), _undone(work))
    if "flip" not in work.journal.begun:
        dumps.drop(server, _undone(work))


# ---------------------------------------------------------------------------------------------- without the app


def beside(app: App) -> Path:
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
