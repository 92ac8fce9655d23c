"""SQLite's data of another instant: fetched from S3 or from a restore point, checked, and put in the place of the live
files. What `restore` asks of this engine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from hostctl.backup import restore_points, settings
from hostctl.backup.recovery_target import (
    broken_data_error,
    compare_rows,
    record_kept_data,
    requested,
    target_time,
)
from hostctl.backup.settings import Database, Databases
from hostctl.common import files
from hostctl.common.documents import DataSource
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, file_digest
from hostctl.common.timestamps import utc
from hostctl.core import moving
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.journal.engine import Work
from hostctl.sqlite import file_swap, replica
from hostctl.sqlite import files as sqlite_files

# ---------------------------------------------------------------------------------------------- what to bring back


def restorable_range(app: App, host: Host) -> tuple[float, float]:
    """The oldest and the newest instant that can be restored. Raises HostError."""
    return replica.of(host).reach(app, settings.require_backup(app)[0])


def row_changes(app: App, data: DataSource) -> Json:
    """The rows of each table now and then, by the database's name; empty for what only S3 has."""
    held = copies(app, data)
    live = {one.name: one.path for one in settings.require(app).databases if one.name in held and one.path.exists()}
    return {
        name: compare_rows(sqlite_files.read_contents(path).tables, sqlite_files.read_contents(held[name]).tables)
        for name, path in live.items()
    }


def live_rows(app: App) -> dict[str, dict[str, int]]:
    """The rows of each table of the live databases."""
    return {
        one.name: sqlite_files.read_contents(one.path).tables
        for one in settings.require(app).databases
        if one.path.exists()
    }


def copies(app: App, data: DataSource) -> dict[str, Path]:
    """The files that a point kept, or that a person loads, by the database's name; empty for what only S3 has."""
    if "file" in data:
        return {settings.require(app).main.name: Path(data["file"])}
    if data["point"] is None:
        return {}
    found = restore_points.load(app, data["point"])
    return {name: app.points / found["id"] / name for name in found["files"]}


# ---------------------------------------------------------------------------------------------- fetch


def fetch(work: Work) -> str:
    """The step: fetch the data beside the live files, and check it, while the app serves."""
    begun = work.host.clock()
    found = restore_into(work.app, requested(work), staged(work), work.host)
    work.journal.set(names=list(found))
    seconds = work.host.clock() - begun
    size = sum(one["bytes"] for one in found.values())
    return f"{', '.join(found)} of {utc(target_time(requested(work)))}: {size / 1e6:.1f} MB, whole, in {seconds:.1f} s"


def aside(work: Work) -> Path:
    """The directory of the replaced files."""
    return work.app.aside / work.journal.id


def staged(work: Work) -> Path:
    return aside(work) / "fetched"


def discard_fetched(work: Work) -> None:
    """The undo of `fetch`."""
    files.remove_tree(staged(work))
    if aside(work).is_dir() and not any(aside(work).iterdir()):
        aside(work).rmdir()


def restore_into(app: App, data: DataSource, into: Path, host: Host, only: Database | None = None) -> Json:
    """The data of `data` as files under `into`, each checked. Returns what was seen of each, by name.

    Raises HostError when it cannot be had, or is not whole.
    """
    dbs, held = settings.require(app), copies(app, data)
    files.remove_tree(into)
    files.make_directory(into.parent, 0o700)
    files.make_directory(into, 0o700)
    found: Json = {}
    for database in [only] if only else dbs.databases:
        target = into / database.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        begun = host.clock()
        if _fetched(app, dbs, database, data, held, target, host):
            found[database.name] = {**check(target, whole=not held), "seconds": round(host.clock() - begun, 3)}
    if not found:
        raise HostError("there is nothing to bring back", str(into), "deploy backup list tells what there is", USAGE)
    return found


def _fetched(
    app: App, dbs: Databases, database: Database, data: DataSource, held: Mapping[str, Path], target: Path, host: Host
) -> bool:
    """Fetch one database; whether there was anything to fetch: one that came later has no past."""
    if not held:
        disk.require_space(target.parent, disk.size(database.path), "the restored data")
        return replica.of(host).fetch(app, dbs, database, target, data["at"])
    if database.name not in held:
        return False
    if "file" in data:
        moving.move(held[database.name], target)
        return True
    disk.require_space(target.parent, disk.size(held[database.name]), "the restored data")
    moving.copy(held[database.name], target)
    _as_taken(app, str(data["point"]), database.name, target)
    return True


def _as_taken(app: App, point: str, name: str, copied: Path) -> None:
    if file_digest(copied) != restore_points.load(app, point)["files"][name]["sha256"]:
        what = f"the restore point's copy of {name} is not what was written: the disk has changed it"
        raise HostError(what, str(app.points / point / name), "deploy restore --at TIME takes the data from S3")


def check(path: Path, whole: bool) -> Json:
    """What is in a database that was brought back. Raises HostError unless it is whole.

    `whole`: Litestream has checked it already, in full, as it does with everything that it restores.
    """
    wrong = [] if whole else sqlite_files.integrity_faults(path)
    if wrong:
        raise broken_data_error(path.name, f"fails its integrity check: {'; '.join(wrong[:3])}")
    seen = sqlite_files.read_contents(path)
    first, last, count = seen.canary
    if count and last - first + 1 != count:
        raise broken_data_error(
            path.name, f"has gaps: {last - first + 1 - count} of hostctl's numbered rows are missing"
        )
    told = {"bytes": path.stat().st_size, "tables": dict(seen.tables), "versions": list(seen.versions)}
    return {**told, "canary": [first, last, count]}


# ---------------------------------------------------------------------------------------------- data


def replace(work: Work) -> str:
    """The step: the fetched files replace the app's, which are kept; replication continues in a new epoch."""
    dbs = settings.require(work.app)
    stopped = time.time()
    _part_from(work, dbs)
    _refuse_openers(dbs, work.journal.content["names"])
    file_swap.swap(dbs, {name: staged(work) / name for name in work.journal.content["names"]}, aside(work))
    files.remove_tree(staged(work))
    _stream_anew(work, dbs)
    return record_kept_data(work, stopped, str(aside(work)))


def _part_from(work: Work, dbs: Databases) -> None:
    """Everything that was written goes to S3, into the epoch that the undo goes back to."""
    if dbs.backup is not None:
        work.journal.set(epoch=replica.of(work.host).epoch(work.app))
        replica.of(work.host).pause(work.app, work.host)


def _refuse_openers(dbs: Databases, names: list[str]) -> None:
    """Whoever has the old file open would go on writing into what is aside."""
    for name in names:
        if found := file_swap.openers(dbs.named(name).path):
            what = f"{', '.join(found)} still has the database open"
            raise HostError(what, str(dbs.named(name).path), "end it (a console, a cron job), and try again")


def _stream_anew(work: Work, dbs: Databases) -> None:
    if dbs.backup is None:
        return
    if not replica.of(work.host).branch(work.app, dbs, f"{work.verb} to {utc(target_time(requested(work)))}"):
        work.note("S3 cannot be asked: the new epoch is published there once it can")
    replica.of(work.host).resume(work.app, work.host)


def confirm(work: Work) -> None:
    """Nothing to do: the new epoch was published by `replace`."""


def put_back(work: Work) -> None:
    """The undo of `replace`: the old files where they were, streaming into their old epoch. What the new ones had taken
    in since the flip is kept aside.
    """
    dbs = settings.require(work.app)
    if dbs.backup is not None:
        replica.of(work.host).pause(work.app, work.host)
    file_swap.swap_back(aside(work))
    if dbs.backup is not None:
        if "epoch" in work.journal.content:
            replica.of(work.host).back_to(work.app, dbs, work.journal.content["epoch"])
        replica.of(work.host).resume(work.app, work.host)
    if "flip" not in work.journal.begun:
        files.remove_tree(aside(work))


def kept_data(_: App) -> Mapping[str, int]:
    """Nothing: whatever was given up is a file aside."""
    return {}


def delete_kept_data(_: App, name: str) -> None:
    """There is none of that name: see `kept`."""


# ---------------------------------------------------------------------------------------------- without the app


def scratch_directory(app: App) -> Path:
    """Where data is brought to for a look at it."""
    return app.state / "scratch"


def extract(app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
    """One database of `data` as a file below `into`, checked, and what was seen of it. Raises HostError."""
    dbs = settings.require(app)
    database = dbs.named(name) if name else dbs.main
    found = restore_into(app, data, into, host, only=database)[database.name]
    return into / database.name, {"name": database.name, **found}
