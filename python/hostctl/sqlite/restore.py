"""SQLite's part of `restore`: fetches data from S3 or from a restore point, checks it, and replaces the live files."""

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
from hostctl.common.documents import DataSource, Point
from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.files import Json, file_digest
from hostctl.common.timestamps import utc
from hostctl.core import lock, moving
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.journal.engine import Work
from hostctl.sqlite.database import file_swap, owner, scratch
from hostctl.sqlite.stream import replica

# ---------------------------------------------------------------------------------------------- what to restore


def restorable_range(app: App, host: Host) -> tuple[float, float]:
    """The oldest and the newest instant that can be restored. Raises HostError."""
    return replica.of(host).reach(app, settings.require_backup(app)[0])


def row_changes(app: App, data: DataSource) -> Json:
    """The rows of each table now and then, by the database's name; empty for data that only S3 has."""
    if data["point"] is None:
        return {}
    dbs, point = settings.require(app), restore_points.load(app, data["point"])
    live = [database for database in dbs.existing() if database.name in point["files"]]
    return {
        each.name: compare_rows(owner.read_contents(dbs.user, each.path).tables, _rows(app, dbs, point, each.name))
        for each in live
    }


def _rows(app: App, dbs: Databases, point: Point, name: str) -> Mapping[str, int]:
    """The rows of each table of a restore point's copy. Raises HostError."""
    if "tables" in point["files"][name]:
        return point["files"][name]["tables"]
    busy = HostError("a restore point is being read", str(app.points), "try again", LOCKED)
    with lock.hold(app.state / "counted.lock", busy), scratch.opened(app.state / "counted", dbs.user) as work:
        _put_copy(app.points / point["id"] / name, work, name, dbs.user)
        return owner.read_contents(dbs.user, work / name).tables


def _put_copy(source: Path, work: Path, name: str, user: str, digest: str | None = None) -> bool:
    """Put a copy of a file of root's into a scratch directory. Returns False if it has not the digest."""
    part = work.with_name(f"{work.name}.part")
    files.unlink(part)
    try:
        moving.copy(source, part)
        if digest not in (None, file_digest(part)):
            return False
        scratch.put(part, work, name, user)
        return True
    finally:
        files.unlink(part)


def live_rows(app: App) -> dict[str, dict[str, int]]:
    """The rows of each table of the live databases."""
    dbs = settings.require(app)
    return {each.name: owner.read_contents(dbs.user, each.path).tables for each in dbs.existing()}


def copies(app: App, data: DataSource) -> dict[str, Path]:
    """The copies of a restore point, or the file that a person loads, by the database's name; empty for data on S3."""
    if "file" in data:
        return {settings.require(app).main.name: Path(data["file"])}
    if data["point"] is None:
        return {}
    point = restore_points.load(app, data["point"])
    return {name: app.points / point["id"] / name for name in point["files"]}


# ---------------------------------------------------------------------------------------------- fetch


def fetch(work: Work) -> str:
    """The step: fetch the data beside the live files and check it, while the app serves. Returns a line to show."""
    begun = work.host.clock()
    restored = restore_into(work.app, requested(work), staged(work), work.host)
    work.journal.set(names=list(restored))
    seconds = work.host.clock() - begun
    size = sum(facts["bytes"] for facts in restored.values())
    when = utc(target_time(requested(work)))
    return f"{', '.join(restored)} of {when}: {size / 1e6:.1f} MB, whole, in {seconds:.1f} s"


def aside(work: Work) -> Path:
    """The directory of the replaced files."""
    return work.app.aside / work.journal.id


def staged(work: Work) -> Path:
    """The directory of the fetched files, the app's user's."""
    return work.app.state / f"fetched-{work.journal.id}"


def discard_fetched(work: Work) -> None:
    """The undo of `fetch`."""
    files.remove_tree(staged(work))
    files.remove_tree(aside(work) / "fetched")  # of an older Homeport
    if aside(work).is_dir() and not any(aside(work).iterdir()):
        aside(work).rmdir()


def restore_into(app: App, data: DataSource, into: Path, host: Host, only: Database | None = None) -> Json:
    """Restore the databases of `data` into `into`, which becomes a directory of the app's user, and check them; `only`:
    just this one. Returns the facts of `check` and the `seconds` of each, by name.

    Raises HostError when none can be restored, or one is damaged.
    """
    dbs, paths = settings.require(app), copies(app, data)
    scratch.make(into, dbs.user)
    restored: Json = {}
    for database in [only] if only else dbs.databases:
        begun = host.clock()
        if _fetch(app, dbs, database, data, paths, into, host):
            facts = check(dbs.user, into / database.name, is_checked=not paths)
            restored[database.name] = {**facts, "seconds": round(host.clock() - begun, 3)}
    if not restored:
        raise HostError("there is nothing to restore", str(into), "deploy backup list shows the backups", USAGE)
    return restored


def _fetch(
    app: App, dbs: Databases, database: Database, data: DataSource, paths: Mapping[str, Path], into: Path, host: Host
) -> bool:
    """Fetch one database. Returns False for one that did not exist at that time."""
    if not paths:
        disk.require_space(into, database.size, "the restored data")
        return replica.of(host).fetch(app, dbs, database, into / database.name, data["at"])
    if database.name not in paths:
        return False
    if "file" in data:
        scratch.put(paths[database.name], into, database.name, dbs.user)
        return True
    disk.require_space(into, disk.size(paths[database.name]), "the restored data")
    _fetch_copy(app, dbs.user, str(data["point"]), database.name, into)
    return True


def _fetch_copy(app: App, user: str, point: str, name: str, into: Path) -> None:
    """Copy a file of a restore point. Raises HostError unless it has the digest that the point recorded."""
    source, digest = app.points / point / name, restore_points.load(app, point)["files"][name]["sha256"]
    if not _put_copy(source, into, name, user, digest):
        what = f"the restore point's copy of {name} is not what was written: the disk has changed it"
        raise HostError(what, str(source), "restore the data from S3: deploy restore --at TIME")


def check(user: str, path: Path, is_checked: bool) -> Json:
    """`bytes`, `tables`, `versions` and `canary` of a restored database. Raises HostError when it is damaged.

    `is_checked`: Litestream has restored it and checked its integrity.
    """
    faults = [] if is_checked else owner.integrity_faults(user, path)
    if faults:
        raise broken_data_error(path.name, f"fails its integrity check: {'; '.join(faults[:3])}")
    contents = owner.read_contents(user, path)
    first, last, count = contents.canary
    if count and last - first + 1 != count:
        raise broken_data_error(
            path.name, f"has gaps: {last - first + 1 - count} of hostctl's numbered rows are missing"
        )
    size = owner.run(user, lambda: path.stat().st_size)
    facts = {"bytes": size, "tables": dict(contents.tables), "versions": list(contents.versions)}
    return {**facts, "canary": [first, last, count]}


# ---------------------------------------------------------------------------------------------- data


def replace(work: Work) -> str:
    """The step: the fetched files replace the app's, which are kept; replication continues in a new epoch."""
    dbs = settings.require(work.app)
    stopped = time.time()
    _pause_stream(work, dbs)
    _refuse_openers(dbs, work.journal.content["names"])
    file_swap.swap(dbs, work.journal.content["names"], staged(work), aside(work))
    files.remove_tree(staged(work))
    _stream_new_epoch(work, dbs)
    return record_kept_data(work, stopped, str(aside(work)))


def _pause_stream(work: Work, dbs: Databases) -> None:
    """Send all writes to the current epoch, to which the undo returns, and stop the stream."""
    if dbs.backup is not None:
        work.journal.set(epoch=replica.of(work.host).epoch(work.app))
        replica.of(work.host).pause(work.app, work.host)


def _refuse_openers(dbs: Databases, names: list[str]) -> None:
    """Raises HostError for a process that has a file open: it would go on to write into the kept one."""
    for name in names:
        if processes := file_swap.openers(dbs.named(name)):
            what = f"{', '.join(processes)} still has the database open"
            raise HostError(what, str(dbs.named(name).path), "end it (a console, a cron job), and try again")


def _stream_new_epoch(work: Work, dbs: Databases) -> None:
    if dbs.backup is None:
        return
    if not replica.of(work.host).branch(work.app, dbs, f"{work.verb} to {utc(target_time(requested(work)))}"):
        work.note("S3 cannot be asked: the new epoch is published there once it can")
    replica.of(work.host).resume(work.app, work.host)


def confirm(work: Work) -> None:
    """Nothing to do: the new epoch was published by `replace`."""


def put_back(work: Work) -> None:
    """The undo of `replace`: the old files are back and stream into their old epoch. After a flip the new files stay in
    the kept data, because the app has written to them.
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
    """Nothing: SQLite keeps replaced data as files."""
    return {}


def delete_kept_data(_: App, name: str) -> None:
    """Does nothing: `kept_data` is empty."""


# ---------------------------------------------------------------------------------------------- inspection


def scratch_directory(app: App) -> Path:
    """The directory for data that is restored only to inspect it."""
    return app.state / "scratch"


def extract(app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
    """Restore one database of `data` below `into`. Returns its file and its facts, as `restore_into`. Raises HostError.

    Without a name it is the main one.
    """
    dbs = settings.require(app)
    database = dbs.named(name) if name else dbs.main
    work = into.with_name(f"{into.name}.work")
    try:
        facts = restore_into(app, data, work, host, only=database)[database.name]
        files.make_directory(into, 0o700)
        scratch.take(work, database.name, into / "database", dbs.user)
    finally:
        files.remove_tree(work)
    return into / "database", {"name": database.name, **facts}
