"""The drill: restores the newest backup and compares it with the live database. Only this proves a backup.

This file has what is the same for every engine: locking, the written result, the error of a failed drill. How a copy is
restored and read is the engine's: see sqlite/drill.py and postgres/archive/drill.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from hostctl.backup import epochs, orphans, settings, state
from hostctl.backup.settings import Backup
from hostctl.common.documents import DrillResult, DrillSummary
from hostctl.common.errors import FAILED, LOCKED, HostError
from hostctl.common.files import append_json, make_directory, read_json, remove_tree, unlink, write_json
from hostctl.common.timestamps import iso
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.notify import events


class Work(NamedTuple):
    """What one drill works on. `scratch` is where the copy is restored; it is removed at the end."""

    app: App
    host: Host
    backup: Backup
    epoch: str
    scratch: Path


class Copy(NamedTuple):
    """The result for one database. `seconds` is the restore alone, `up_to` when its newest numbered row was written.

    With anything in `found`, `restorable` is the newest instant of which a sound copy can be restored; None without
    one.
    """

    found: list[str]
    bytes: int = 0
    seconds: float = 0.0
    up_to: float | None = None
    rows: int = 0
    restorable: float | None = None


# the result for each database, by name; raises HostError when nothing can be compared
Prove = Callable[[Work], Iterable[tuple[str, Copy]]]
Remove = Callable[[Path], None]  # removes the copy and the server on it; both may be gone already


class DamagedCopyError(Exception):
    """The copy cannot be restored, or is damaged. Another try would have the same result."""


# ---------------------------------------------------------------------------------------------- the drill as a whole


def run(app: App, host: Host, scratch: Path, prove: Prove, remove: Remove = remove_tree) -> DrillResult:
    """Drill, write the result down, and return it. Raises HostError when the backup has any fault.

    Raises HostError (locked) when a drill runs already.
    """
    backup = settings.backup(app)
    make_directory(app.backup, 0o700)
    with _alone(app), _ended_by_exception():
        before = last_result(app)
        result = _written(app, _drilled(Work(app, host, backup, "", scratch), prove, remove))
        events.drill_ended(app, before, result)
        if result["ok"]:
            _forget_outlived(app, backup)
    if not result["ok"]:
        raise _loud(app, result)
    return result


def remove_leftovers(app: App, scratch: Path, remove: Remove = remove_tree) -> bool:
    """Remove the copy of a killed drill; returns whether there was one. Does nothing while a drill runs."""
    if not scratch.exists():
        return False
    with contextlib.suppress(HostError), _alone(app):
        remove(scratch)
        unlink(app.backup / "drill.progress")
        return True
    return False


def _alone(app: App) -> contextlib.AbstractContextManager[None]:
    busy = HostError("a drill runs already", str(app.backup), "deploy backup status", LOCKED)
    return lock.hold(app.backup / "drill.lock", busy)


@contextlib.contextmanager
def _ended_by_exception() -> Iterator[None]:
    """SIGTERM (systemctl stop) raises SystemExit, so that the copy is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _forget_outlived(app: App, backup: Backup) -> None:
    """Delete epochs older than the retention, once the newest is proven. A bucket that forbids deletion keeps them."""
    store, before = epochs.bucket(app), time.time() - backup.retention
    with contextlib.suppress(HostError):
        for epoch in [*epochs.expired(epochs.chain(store), before), *orphans.find_orphans(app, store, before)]:
            epochs.delete(store, epoch)


def last_result(app: App) -> DrillResult | None:
    """The result of the last drill, with `last_good`, the last drill without a fault. None before the first."""
    return cast("DrillResult | None", read_json(app.backup / "drill.json"))


def proven_until(app: App) -> float | None:
    """The instant up to which a drill has proven the backup, in seconds since the epoch; None before the first good
    drill.
    """
    last = last_result(app)
    good = last.get("last_good") if last else None
    return good["up_to"] if good else None


def progress(app: App) -> str:
    """The step of the running drill; "" without one."""
    return str((read_json(app.backup / "drill.progress") or {}).get("step", ""))


def report_step(work: Work, step: str) -> None:
    """Write down the step of the drill."""
    write_json(work.app.backup / "drill.progress", {"at": time.time(), "step": step}, durable=False)


def _drilled(work: Work, prove: Prove, remove: Remove) -> DrillResult:
    """The result of a drill. An error that prevents the comparison is a failure, too."""
    begun, clock = time.time(), work.host.clock()
    copies: dict[str, Copy] = {}
    trouble: list[str] = []
    try:
        work = work._replace(epoch=_epoch(work.app))
        remove(work.scratch)
        for name, copy in prove(work):
            copies[name] = copy
        trouble = _moved(work.app, work.epoch)
    except (HostError, OSError) as error:
        trouble = [error.what if isinstance(error, HostError) else f"{type(error).__name__}: {error}"]
    finally:
        remove(work.scratch)
        unlink(work.app.backup / "drill.progress")
    return _result(begun, work.host.clock() - clock, work.epoch or None, copies, trouble)


def _result(
    begun: float, took: float, epoch: str | None, copies: Mapping[str, Copy], trouble: list[str]
) -> DrillResult:
    """The result of a drill, without `last_good` and `offer`."""
    found = [f"{name}: {what}" for name, copy in copies.items() for what in copy.found]
    times = [copy.up_to for copy in copies.values() if copy.up_to is not None]
    return {
        "at": begun,
        "ok": not found and not trouble,
        "epoch": epoch,
        "took": round(took, 3),
        "seconds": round(sum(copy.seconds for copy in copies.values()), 3),
        "bytes": sum(copy.bytes for copy in copies.values()),
        "rows": sum(copy.rows for copy in copies.values()),
        "found": found + trouble,
        "damaged": bool(found),
        "up_to": min(times) if times else None,
        "restorable": {name: copy.restorable for name, copy in copies.items() if copy.found},
    }


def _written(app: App, result: DrillResult) -> DrillResult:
    """Write the result, completed by `last_good` and `offer`; returns it."""
    before, short = last_result(app), _summary(result)
    append_json(app.backup / "drills.jsonl", short, durable=True)
    good = short if result["ok"] else before["last_good"] if before else None
    if result["damaged"]:
        # the fault may be a hole, which only a full snapshot closes
        state.require_full(app, "a drill found the backup damaged")
    whole: DrillResult = {**result, "last_good": good}
    whole["offer"] = "" if result["ok"] else recovery_options(whole)
    write_json(app.backup / "drill.json", whole)
    return whole


def _summary(result: DrillResult) -> DrillSummary:
    return {
        "at": result["at"],
        "ok": result["ok"],
        "epoch": result["epoch"],
        "seconds": result["seconds"],
        "bytes": result["bytes"],
        "found": result["found"],
        "up_to": result["up_to"],
    }


def _loud(app: App, result: DrillResult) -> HostError:
    """The error of a failed drill, which also goes to the journal with priority "error"."""
    what = f"the backup of {app.name} failed its drill: {'; '.join(result['found'])}"
    if "JOURNAL_STREAM" in os.environ:
        print(f"<3>{what}\n<3>{result['offer']}", file=sys.stderr, flush=True)
    fix = "wait a minute for a full snapshot; then run deploy backup drill again" if result["damaged"] else ""
    where = str(app.backup / "drill.json")
    return HostError(f"{what}. {result['offer']}", where, fix or "deploy backup status", FAILED)


def recovery_options(result: DrillResult) -> str:
    """What can still be restored after a failed drill, in words."""
    times = result["restorable"].values()
    known = [at for at in times if at is not None]
    if len(known) < len(times):
        return "No sound copy of this epoch is known: deploy backup list shows restore points and older epochs"
    good = result.get("last_good")
    up_to = good["up_to"] if good else None
    proven = f"a drill has proven it up to {iso(up_to)}" if up_to else "no drill has ever passed here"
    if known:
        return f"It can be restored up to {iso(min(known))} (deploy restore --at {iso(min(known))}); {proven}"
    return f"The next drill may pass; {proven}" + (f" (deploy restore --at {iso(up_to)})" if up_to else "")


# ---------------------------------------------------------------------------------------------- checks


def _epoch(app: App) -> str:
    """The epoch of this host. Raises HostError when CURRENT names another one."""
    mine = epochs.local(app)
    if mine is None:
        raise HostError("nothing is replicated: this host has no epoch", str(app.backup), "deploy backup status")
    bucket = epochs.bucket(app)
    current = epochs.current(app, bucket)
    if current is None or current.epoch != mine.epoch:
        told = f"the backup belongs to {current.host}" if current else "the bucket names no epoch"
        raise HostError(f"this host is superseded: {told}", str(app.backup), "deploy backup takeover")
    return mine.epoch


def _moved(app: App, epoch: str) -> list[str]:
    """The fault of a drill during which the database was restored: its comparison means nothing."""
    mine = epochs.local(app)
    same = mine is not None and mine.epoch == epoch
    return [] if same else ["the database was restored while it was drilled: run deploy backup drill again"]


def require_space(scratch: Path, largest: int) -> None:
    """Raises HostError unless a copy of `largest` bytes fits on the disk."""
    disk.require_space(scratch, largest + largest // 10 + disk.SPARE, "a drill")
