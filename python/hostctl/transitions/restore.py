"""Data of another instant in the place of the app's own: the steps that `restore` and `rollback --with-data` share,
and what both would give up, told before anything is done. What is particular to an engine is in its own module.

The app serves while the data is fetched and checked. Then every instance stops, the edge holds requests, the data
changes places, and the app starts again. Every step has an undo: until the end the old data is one rename away.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hostctl import engines
from hostctl.backup import epochs, recovery_target, restore_points
from hostctl.common import files
from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.lock import Flock
from hostctl.core.paths import App
from hostctl.cron import runs
from hostctl.host.host import Host
from hostctl.instance import start as instance_start
from hostctl.journal.steps import Work
from hostctl.release import environment, records
from hostctl.transitions import drain, switch

if TYPE_CHECKING:
    from hostctl.engines import Restores


def of(app: App) -> Restores:
    """How the app's engine does it. Raises HostError (usage) without a database."""
    return engines.require(app).restores


# ---------------------------------------------------------------------------------------------- what to bring back


def source(app: App, at: float | None, point: str | None, host: Host) -> Json:
    """What to bring back, as the journal keeps it: {"point": id or None, "at": seconds since the epoch}.

    Without either the newest that is on S3. Raises HostError when there is no such point, the instant is outside what
    can be restored, or another host's copy counts.
    """
    epochs.refuse_superseded(app)
    if point is not None:
        return {"point": point, "at": restore_points.load(app, point)["at"]}
    first, last = of(app).reach(app, host)
    if at is not None and not first <= at <= max(last, time.time()):
        window = f"{recovery_target.utc(first)} to {recovery_target.utc(last)}"
        what = f"{recovery_target.utc(at)} is outside what can be restored: {window}"
        raise HostError(what, "the backup on S3", "deploy backup list, and name a time within", USAGE)
    return {"point": None, "at": at, "newest": last if at is None else min(at, last), "from": first, "to": last}


def gives_up(app: App, data: Json) -> Json:
    """What would be lost to the app: seconds of writes and, for a point that knows, the rows of each table now and
    then.
    """
    return recovery_target.given(data, of(app).counted(app, data))


# ---------------------------------------------------------------------------------------------- fetch


def fetch(work: Work) -> str:
    """The step: bring the data beside, whole and checked, while the app serves."""
    return of(work.app).fetch(work)


def forget(work: Work) -> None:
    """The undo of fetch."""
    of(work.app).forget(work)


# ---------------------------------------------------------------------------------------------- stop


def stop_all(work: Work) -> str:
    """The step: no instance of the app runs any more, none that drains, no job; the edge holds the requests."""
    drain.cut_all(work, keep=None)
    if jobs := runs.stop_all(work.app, work.host):
        work.note(f"{', '.join(jobs)} ended: no job runs while the data is exchanged")
    units = [work.app.unit(release) for release in records.releases(work.app)]
    ended = ("inactive", "failed", "unknown")
    running = [u for u, seen in zip(units, work.host.systemd.show(*units), strict=True) if seen.state not in ended]
    for unit in running:
        work.host.systemd.stop(unit)
    return f"{', '.join(running) or 'nothing'} stopped; the edge holds requests"


# ---------------------------------------------------------------------------------------------- data


def replace(work: Work) -> str:
    """The step: the data that was fetched takes the place of the app's own, which goes aside."""
    return of(work.app).replace(work)


def verify(work: Work) -> str:
    """The step: the edge answers with the app on its data, which counts from now on."""
    told = switch.verify(work)
    of(work.app).counts(work)
    return told


def put_back(work: Work) -> None:
    """The undo of `replace`: the old data where it was. What the new had taken in since the flip is kept aside."""
    of(work.app).put_back(work)


# ---------------------------------------------------------------------------------- the switch of a restore in place


def start(work: Work) -> str:
    """Start the instance on another port than the edge knows: it gets no request before it was found healthy."""
    unit = work.app.unit(work.release)
    own = records.port(work.app, work.release)
    work.journal.set(baseline=0, port_before=own)
    number = instance_start.assign_port(work, records.NEXT_PORT)
    work.host.systemd.start(unit)
    return f"{unit} on port {number}"


def stop_again(work: Work) -> None:
    """The undo of start."""
    work.host.systemd.stop(work.app.unit(work.release))
    files.unlink(work.app.record(work.release) / records.NEXT_PORT)
    before = work.journal.content.get("port_before")
    if before is not None:
        environment.write_port(work.app, work.release, before)


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


# ---------------------------------------------------------------------------------------------- without the app


def rehearse(app: App, data: Json, host: Host) -> Json:
    """Restore beside, check, and tell what a restore in place would bring and give up."""
    with _beside(app) as into:
        found = of(app).bring(app, data, into, host)
        now = of(app).now(app)
    tables = {name: recovery_target.compared(now.get(name, {}), one["tables"]) for name, one in found.items()}
    return {
        "at": recovery_target.instant(data),
        "point": data["point"],
        "databases": found,
        "gives_up": recovery_target.given(data, tables),
    }


def send(app: App, data: Json, name: str | None, host: Host, out: BinaryIO) -> None:
    """Restore beside, check, and write a database to `out`: a line of JSON that says how many bytes follow and what
    their SHA-256 is, then the bytes. Raises HostError before the first byte, or not at all.
    """
    with _beside(app) as into:
        path, found = of(app).extract(app, data, name, into, host)
        head = {
            "at": recovery_target.instant(data),
            **found,
            "bytes": path.stat().st_size,
            "sha256": restore_points.digest(path),
        }
        out.write(json.dumps(head).encode() + b"\n")
        with path.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
        out.flush()


@contextmanager
def _beside(app: App) -> Iterator[Path]:
    """A directory for restored data, gone afterwards; what a killed one left goes first. Raises HostError (locked)."""
    into = of(app).beside(app)
    try:
        with Flock(app.state / "scratch.lock"):
            try:
                yield into
            finally:
                files.remove_tree(into)
    except BlockingIOError:
        raise HostError("somebody else restores to try it", str(into), "try again later", LOCKED) from None
