"""Data of another instant in the place of the app's own: the steps that `restore` and `rollback --with-data` share,
and what both would give up, told before anything is done.

The app serves while the data is fetched and checked. Then every instance stops, the edge holds requests, the files
change places, and the app starts again. Every step has an undo: until the end the old data is one rename away.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hostctl import databases, drain, files, gates, points, records, sqlite, swap
from hostctl.databases import Database, Databases
from hostctl.edges import Edges
from hostctl.errors import LOCKED, USAGE, HostError
from hostctl.files import Json
from hostctl.layout import App
from hostctl.lock import Flock
from hostctl.transition import Step, Work


def utc(at: float) -> str:
    """An instant as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


# ---------------------------------------------------------------------------------------------- what to bring back


def source(app: App, at: float | None, point: str | None, edges: Edges) -> Json:
    """What to bring back, as the journal keeps it: {"point": id or None, "at": seconds since the epoch}.

    Without either the newest that is on S3. Raises HostError when there is no such point, the instant is outside what
    can be restored, or another host's copy counts.
    """
    edges.replica.refuse_superseded(app)
    if point is not None:
        return {"point": point, "at": points.load(app, point)["at"]}
    dbs, _ = databases.require_backup(app)
    first, last = edges.replica.reach(app, dbs)
    if at is not None and not first <= at <= max(last, time.time()):
        what = f"{utc(at)} is outside what can be restored: {utc(first)} to {utc(last)}"
        raise HostError(what, "the backup on S3", "deploy backup list, and name a time within", USAGE)
    return {"point": None, "at": at, "newest": last if at is None else min(at, last), "from": first, "to": last}


def instant(data: Json) -> float:
    """The instant whose data comes back, in seconds since the epoch."""
    return float(data["newest"] if data["at"] is None else data["at"])


def gives_up(app: App, data: Json) -> Json:
    """What would be lost to the app: seconds of writes and, for a point that was copied, the rows of each table now and
    then.
    """
    return _given(data, _tables(app, data))


def _given(data: Json, tables: Json) -> Json:
    return {"since": instant(data), "seconds": round(time.time() - instant(data), 3), "tables": tables}


def _tables(app: App, data: Json) -> Json:
    held = copies(app, data)
    live = {one.name: one.path for one in databases.require(app).databases if one.name in held and one.path.exists()}
    return {name: _compared(sqlite.look(path).tables, sqlite.look(held[name]).tables) for name, path in live.items()}


def _compared(now: Mapping[str, int], then: Mapping[str, int]) -> dict[str, list[int | None]]:
    """Rows of each table, now and then; None for one that was not there."""
    return {table: [now.get(table), then.get(table)] for table in sorted({*now, *then})}


def copies(app: App, data: Json) -> dict[str, Path]:
    """The files that a point kept, or that a person loads, by the database's name; empty for what only S3 has."""
    if "file" in data:
        return {databases.require(app).main.name: Path(data["file"])}
    if data["point"] is None:
        return {}
    found = points.load(app, data["point"])
    return {name: app.points / found["id"] / name for name in found["files"]}


# ---------------------------------------------------------------------------------------------- fetch


def fetch(work: Work) -> str:
    """The step: bring the data beside, whole and checked, while the app serves."""
    begun = work.edges.clock()
    found = bring(work.app, wanted(work), staged(work), work.edges)
    work.journal.set(names=list(found))
    seconds = work.edges.clock() - begun
    size = sum(one["bytes"] for one in found.values())
    return f"{', '.join(found)} of {utc(instant(wanted(work)))}: {size / 1e6:.1f} MB, whole, in {seconds:.1f} s"


def wanted(work: Work) -> Json:
    """Which data the transition brings back."""
    assert work.data is not None  # noqa: S101 - only such transitions have these steps
    return work.data


def aside(work: Work) -> Path:
    """Where what is given up lies afterwards."""
    return work.app.aside / work.journal.id


def staged(work: Work) -> Path:
    return aside(work) / "fetched"


def forget(work: Work) -> None:
    """The undo of fetch."""
    files.remove_tree(staged(work))
    if aside(work).is_dir() and not any(aside(work).iterdir()):
        aside(work).rmdir()


def bring(app: App, data: Json, into: Path, edges: Edges, only: Database | None = None) -> Json:
    """The data of `data` as files under `into`, each checked. Returns what was seen of each, by name.

    Raises HostError when it cannot be had, or is not whole.
    """
    dbs, held = databases.require(app), copies(app, data)
    files.remove_tree(into)
    files.make_directory(into.parent, 0o700)
    files.make_directory(into, 0o700)
    found: Json = {}
    for database in [only] if only else dbs.databases:
        target = into / database.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        begun = edges.clock()
        if _fetched(app, dbs, database, data, held, target, edges):
            found[database.name] = {**check(target, whole=not held), "seconds": round(edges.clock() - begun, 3)}
    if not found:
        raise HostError("there is nothing to bring back", str(into), "deploy backup list tells what there is", USAGE)
    return found


def _fetched(
    app: App, dbs: Databases, database: Database, data: Json, held: Mapping[str, Path], target: Path, edges: Edges
) -> bool:
    """Fetch one database; whether there was anything to fetch: one that came later has no past."""
    if not held:
        _room(target.parent, _size(database.path))
        return edges.replica.fetch(app, dbs, database, target, data["at"])
    if database.name not in held:
        return False
    if "file" in data:
        swap.move(held[database.name], target)
        return True
    _room(target.parent, _size(held[database.name]))
    swap.copy(held[database.name], target)
    _as_taken(app, data["point"], database.name, target)
    return True


def _as_taken(app: App, point: str, name: str, copied: Path) -> None:
    if points.digest(copied) != points.load(app, point)["files"][name]["sha256"]:
        what = f"the restore point's copy of {name} is not what was written: the disk has changed it"
        raise HostError(what, str(app.points / point / name), "deploy restore --at TIME takes the data from S3")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _room(directory: Path, need: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < need:
        what = f"the disk is full: the data needs {need >> 20} MiB, {free >> 20} MiB are free"
        raise HostError(what, str(directory), "free some space on the host (df -h), and try again")


def check(path: Path, whole: bool) -> Json:
    """What is in a database that was brought back. Raises HostError unless it is whole.

    `whole`: Litestream has checked it already, in full, as it does with everything that it restores.
    """
    wrong = [] if whole else sqlite.integrity(path)
    if wrong:
        raise _broken(path, f"fails its integrity check: {'; '.join(wrong[:3])}")
    seen = sqlite.look(path)
    first, last, count = seen.canary
    if count and last - first + 1 != count:
        raise _broken(path, f"has gaps: {last - first + 1 - count} of hostctl's numbered rows are missing")
    told = {"bytes": path.stat().st_size, "tables": dict(seen.tables), "versions": list(seen.versions)}
    return {**told, "canary": [first, last, count]}


def _broken(path: Path, how: str) -> HostError:
    fix = "deploy backup drill tells what is sound; restore another time, or a point (deploy backup list)"
    return HostError(f"the data that came back {how}", path.name, fix)


# ---------------------------------------------------------------------------------------------- stop


def stop_all(work: Work) -> str:
    """The step: no instance of the app runs any more, one that drains neither; the edge holds the requests."""
    drain.cut_all(work, keep=None)
    units = [work.app.unit(release) for release in records.releases(work.app)]
    ended = ("inactive", "failed", "unknown")
    running = [u for u, seen in zip(units, work.edges.systemd.show(*units), strict=True) if seen.state not in ended]
    for unit in running:
        work.edges.systemd.stop(unit)
    return f"{', '.join(running) or 'nothing'} stopped; the edge holds requests"


# ---------------------------------------------------------------------------------------------- data


def replace(work: Work) -> str:
    """The step: the fetched files take the place of the app's, which go aside; the stream goes on in a new epoch."""
    dbs = databases.require(work.app)
    stopped = time.time()
    _part_from(work, dbs)
    _refuse_openers(dbs, work.journal.content["names"])
    swap.swap(dbs, {name: staged(work) / name for name in work.journal.content["names"]}, aside(work))
    files.remove_tree(staged(work))
    _stream_anew(work, dbs)
    given = round(stopped - instant(wanted(work)), 3)
    work.journal.set(kept={"aside": str(aside(work)), "since": instant(wanted(work)), "seconds": given})
    was = "what was there is" if "file" in wanted(work) else f"{given:.0f} s of writes are given up, and"
    return f"{was} kept in {aside(work)}"


def _part_from(work: Work, dbs: Databases) -> None:
    """Everything that was written goes to S3, into the epoch that the undo goes back to."""
    if dbs.backup is not None:
        work.journal.set(epoch=work.edges.replica.epoch(work.app))
        work.edges.replica.pause(work.app, work.edges)


def _refuse_openers(dbs: Databases, names: list[str]) -> None:
    """Whoever has the old file open would go on writing into what is aside."""
    for name in names:
        if found := swap.openers(dbs.named(name).path):
            what = f"{', '.join(found)} still has the database open"
            raise HostError(what, str(dbs.named(name).path), "end it (a console, a cron job), and try again")


def _stream_anew(work: Work, dbs: Databases) -> None:
    if dbs.backup is None:
        return
    if not work.edges.replica.branch(work.app, dbs, f"{work.verb} to {utc(instant(wanted(work)))}"):
        work.note("S3 cannot be asked: the new epoch is published there once it can")
    work.edges.replica.resume(work.app, work.edges)


def put_back(work: Work) -> None:
    """The undo of `replace`: the old files where they were, streaming into their old epoch. What the new ones had taken
    in since the flip is kept aside.
    """
    dbs = databases.require(work.app)
    if dbs.backup is not None:
        work.edges.replica.pause(work.app, work.edges)
    swap.swap_back(aside(work))
    if dbs.backup is not None:
        if "epoch" in work.journal.content:
            work.edges.replica.back_to(work.app, dbs, work.journal.content["epoch"])
        work.edges.replica.resume(work.app, work.edges)
    if "flip" not in work.journal.begun:
        files.remove_tree(aside(work))


# ---------------------------------------------------------------------------------- the gates of a restore in place


def start(work: Work) -> str:
    """Start the instance on another port than the edge knows: it gets no request before it was found healthy."""
    unit = work.app.unit(work.release)
    own = records.port(work.app, work.release)
    work.journal.set(baseline=0, port_before=own)
    number = gates.assign_port(work, records.NEXT_PORT)
    work.edges.systemd.start(unit)
    return f"{unit} on port {number}"


def stop_again(work: Work) -> None:
    """The undo of start."""
    work.edges.systemd.stop(work.app.unit(work.release))
    files.unlink(work.app.record(work.release) / records.NEXT_PORT)
    before = work.journal.content.get("port_before")
    if before is not None:
        gates.write_environment_port(work, before)


def flip(work: Work) -> None:
    """One rename: from the next request on, the edge reads the port of the instance that has the restored data."""
    directory = work.app.record(work.release)
    if (directory / records.NEXT_PORT).exists():
        (directory / records.NEXT_PORT).replace(directory / "port")
        files.sync_directory(directory)


def flip_back(work: Work) -> None:
    """The undo of flip."""
    before = work.journal.content.get("port_before")
    if before is not None:
        records.write_port(work.app, work.release, before)


GATES = [
    Step("start", start, stop_again),
    Step("health", gates.check_health, gates.nothing),
    Step("flip", flip, flip_back, again=True),
    Step("verify", gates.verify, gates.nothing),
]


# ---------------------------------------------------------------------------------------------- begin


def begin(app: App, data: Json, who: str, origin: str, wait: float, edges: Edges) -> Json:
    """Begin a restore in place. Returns the transition. Raises HostError."""
    from hostctl import begin

    return begin.replace_data(app, "restore", data, who, origin, wait, edges)


def load(app: App, path: Path, who: str, origin: str, edges: Edges) -> Json:
    """Begin a restore in place from a file on this host, which is used up. Returns the transition. Raises HostError."""
    from hostctl import begin

    data = {"point": None, "at": time.time(), "file": str(path)}
    return begin.replace_data(app, "load", data, who, origin, 0.0, edges)


# ---------------------------------------------------------------------------------------------- without the app


def rehearse(app: App, data: Json, edges: Edges) -> Json:
    """Restore into scratch files, check, and tell what a restore in place would bring and give up."""
    with _scratch(app) as into:
        found = bring(app, data, into, edges)
    now = {one.name: sqlite.look(one.path).tables for one in databases.require(app).databases if one.path.exists()}
    tables = {name: _compared(now.get(name, {}), one["tables"]) for name, one in found.items()}
    told = {"at": instant(data), "point": data["point"], "databases": found}
    return told | {"gives_up": _given(data, tables)}


def send(app: App, data: Json, name: str | None, edges: Edges, out: BinaryIO) -> None:
    """Restore into scratch files, check, and write one of them to `out`: a line of JSON that says how many bytes follow
    and what their SHA-256 is, then the bytes. Raises HostError before the first byte, or not at all.
    """
    dbs = databases.require(app)
    database = dbs.named(name) if name else dbs.main
    with _scratch(app) as into:
        found = bring(app, data, into, edges, only=database)[database.name]
        told = {"name": database.name, "at": instant(data), "sha256": points.digest(into / database.name), **found}
        out.write(json.dumps(told).encode() + b"\n")
        with (into / database.name).open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
        out.flush()


@contextmanager
def _scratch(app: App) -> Iterator[Path]:
    """A directory for restored files, gone afterwards; what a killed one left goes first. Raises HostError (locked)."""
    into = app.state / "scratch"
    try:
        with Flock(app.state / "scratch.lock"):
            try:
                yield into
            finally:
                files.remove_tree(into)
    except BlockingIOError:
        raise HostError("somebody else restores to try it", str(into), "try again later", LOCKED) from None
