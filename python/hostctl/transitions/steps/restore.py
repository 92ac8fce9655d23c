"""Restores: the steps that `restore`, `load` and `rollback --with-data` share, and what a restore would discard.

The app serves while the data is fetched and checked. Then every instance stops, the edge holds requests, the data is
replaced, and the app starts again. Every step has an undo: until the end the replaced data comes back by a rename. The
steps delegate to the module of the database's engine.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hostctl import engines
from hostctl.backup import epochs, recovery_target, restore_points
from hostctl.common import files
from hostctl.common.documents import DataSource, Json
from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.files import file_digest
from hostctl.common.timestamps import utc
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.cron import runs
from hostctl.engines import Restores
from hostctl.host.host import Host
from hostctl.instance import start as instance_start
from hostctl.journal.engine import Work
from hostctl.release import environment, records
from hostctl.transitions.steps import drain, switch


def of(app: App) -> Restores:
    """The restores of the app's engine. Raises HostError (usage) without a database."""
    return engines.require(app).restores


# ---------------------------------------------------------------------------------------------- the source


def source(app: App, at: float | None, point: str | None, host: Host) -> DataSource:
    """The data to restore, as the journal records it: that of a restore point, of an instant, else the newest on S3.

    Raises HostError when there is no such point, the instant is outside what can be restored, or another host has taken
    over the backup.
    """
    epochs.refuse_superseded(app)
    if point is not None:
        return {"point": point, "at": restore_points.load(app, point)["at"]}
    first, last = of(app).restorable_range(app, host)
    if at is not None and not first <= at <= max(last, time.time()):
        window = f"{utc(first)} to {utc(last)}"
        what = f"{utc(at)} is outside what can be restored: {window}"
        raise HostError(what, "the backup on S3", "deploy backup list, and name a time within", USAGE)
    return {"point": None, "at": at, "newest": last if at is None else min(at, last), "from": first, "to": last}


def gives_up(app: App, data: DataSource) -> Json:
    """The data that a restore would discard: seconds of writes and, where they are known, the rows of each table now
    and then.
    """
    return recovery_target.estimated_loss(data, of(app).row_changes(app, data))


# ---------------------------------------------------------------------------------------------- fetch


def fetch(work: Work) -> str:
    """The step `fetch`: fetch the data and check it while the app serves. Returns a line to show."""
    return of(work.app).fetch(work)


def forget(work: Work) -> None:
    """The undo of fetch."""
    of(work.app).discard_fetched(work)


# ---------------------------------------------------------------------------------------------- stop


def stop_all(work: Work) -> str:
    """The step `stop`: stop every instance, drain and job of the app. Returns a line to show."""
    drain.cut_all(work, keep=None)
    if jobs := runs.stop_all(work.app, work.host):
        work.note(f"{', '.join(jobs)} stopped: no job may run while the data is replaced")
    units = [work.app.unit(release) for release in records.releases(work.app)]
    ended = ("inactive", "failed", "unknown")
    running = [u for u, shown in zip(units, work.host.systemd.show(*units), strict=True) if shown.state not in ended]
    for unit in running:
        work.host.systemd.stop(unit)
    return f"{', '.join(running) or 'nothing'} stopped; the edge holds requests"


# ---------------------------------------------------------------------------------------------- data


def replace(work: Work) -> str:
    """The step `data`: replace the app's data with the fetched data. Returns a line that says where the old is kept."""
    return of(work.app).replace(work)


def verify(work: Work) -> str:
    """The step `verify`: check the app through the edge, then make its new data the one that is backed up."""
    line = switch.verify(work)
    of(work.app).confirm(work)
    return line


def put_back(work: Work) -> None:
    """The undo of `replace`: put the old data back. What was written to the new since the flip is kept."""
    of(work.app).put_back(work)


# ---------------------------------------------------------------------------------- the switch of a restore in place


def start(work: Work) -> str:
    """The step `start`: start the instance on a port that the edge does not use, so that it gets no request before its
    health check. Returns a line to show.
    """
    unit = work.app.unit(work.release)
    work.journal.set(baseline=0, port_before=records.port(work.app, work.release))
    number = instance_start.assign_port(work, records.NEXT_PORT)
    instance_start.start(work.app, work.release, work.host)
    return f"{unit} on port {number}"


def stop_again(work: Work) -> None:
    """The undo of start."""
    work.host.systemd.stop(work.app.unit(work.release))
    files.unlink(work.app.record(work.release) / records.NEXT_PORT)
    before = work.journal.content.get("port_before")
    if before is not None:
        environment.write_port(work.app, work.release, before)


def flip(work: Work) -> None:
    """The step `flip`: one rename. From the next request on, the edge uses the instance on the new data."""
    directory = work.app.record(work.release)
    if (directory / records.NEXT_PORT).exists():
        records.publish_port(work.app, work.release, records.NEXT_PORT)
        (directory / records.NEXT_PORT).replace(directory / "port")
        files.sync_directory(directory)


def flip_back(work: Work) -> None:
    """The undo of flip."""
    before = work.journal.content.get("port_before")
    if before is not None:
        records.write_port(work.app, work.release, before)
        records.publish_port(work.app, work.release)


# -------------------------------------------------------------------------------------------- without changing the app


def rehearse(app: App, data: DataSource, host: Host) -> Json:
    """Restore into a scratch directory and check the data. Returns it, and what a restore in place would discard.

    Raises HostError.
    """
    with _scratch(app) as into:
        restored = of(app).restore_into(app, data, into, host)
        now = of(app).live_rows(app)
    tables = {name: recovery_target.compare_rows(now.get(name, {}), then["tables"]) for name, then in restored.items()}
    return {
        "at": recovery_target.target_time(data),
        "point": data["point"],
        "databases": restored,
        "gives_up": recovery_target.estimated_loss(data, tables),
    }


def send(app: App, data: DataSource, name: str | None, host: Host, out: BinaryIO) -> None:
    """Restore into a scratch directory, check, and write one database to `out`: a line of JSON with its `bytes` and
    `sha256`, then that many bytes. Raises HostError only before the first byte.
    """
    with _scratch(app) as into:
        path, facts = of(app).extract(app, data, name, into, host)
        head = {
            "at": recovery_target.target_time(data),
            **facts,
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        out.write(json.dumps(head).encode() + b"\n")
        with path.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
        out.flush()


@contextmanager
def _scratch(app: App) -> Iterator[Path]:
    """A directory for restored data, which is removed at the end of the block. Raises HostError (locked)."""
    into = of(app).scratch_directory(app)
    busy = HostError("another trial restore is running", str(into), "try again later", LOCKED)
    with lock.hold(app.state / "scratch.lock", busy):
        try:
            yield into
        finally:
            files.remove_tree(into)
