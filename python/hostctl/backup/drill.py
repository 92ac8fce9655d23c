"""The drill: restores the newest backup and compares it with the live database. Only this proves a backup.

This file has what is the same for every engine: locking, the written result, the error of a failed drill. How a copy is
restored and read is the engine's: see sqlite/stream/drill.py and postgres/archive/drill.py.
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
    """The subject of a drill. The copy is restored into the directory `scratch`, which is removed at the end."""

    app: App
    host: Host
    backup: Backup
    epoch: str
    scratch: Path


class Copy(NamedTuple):
    """The result for one database. `seconds` is the restore alone, `up_to` when its newest numbered row was written.

    If `found` has faults, `restorable` is the newest time of which an intact copy can be restored; None without one.
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
    """Perform a drill, and save and return its result.

    Raises HostError if the backup has a fault, and HostError (locked) if another drill is running.
    """
    backup = settings.backup(app)
    make_directory(app.backup, 0o700)
    with _drill_lock(app), _sigterm_as_exit():
        before = last_result(app)
        result = _save_result(app, _perform(Work(app, host, backup, "", scratch), prove, remove))
        events.drill_ended(app, before, result)
        if result["ok"]:
            _delete_expired_epochs(app, backup)
    if not result["ok"]:
        raise _failure(app, result)
    return result


def remove_leftovers(app: App, scratch: Path, remove: Remove = remove_tree) -> bool:
    """Remove the copy that a killed drill left; returns whether there was one. Does nothing during a drill."""
    if not scratch.exists():
        return False
    with contextlib.suppress(HostError), _drill_lock(app):
        remove(scratch)
        unlink(app.backup / "drill.progress")
        return True
    return False


def _drill_lock(app: App) -> contextlib.AbstractContextManager[None]:
    busy = HostError("a drill is running already", str(app.backup), "deploy backup status", LOCKED)
    return lock.hold(app.backup / "drill.lock", busy)


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM (systemctl stop) raise SystemExit during the block, so that the copy is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _delete_expired_epochs(app: App, backup: Backup) -> None:
    """Delete the epochs older than the retention. If the bucket forbids it (object lock), they stay."""
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
    """Save the step of the running drill, for `progress`."""
    write_json(work.app.backup / "drill.progress", {"at": time.time(), "step": step}, durable=False)


def _perform(work: Work, prove: Prove, remove: Remove) -> DrillResult:
    """Restore and compare each database; returns the result. An error that prevents this is a fault as well."""
    begun, clock = time.time(), work.host.clock()
    copies: dict[str, Copy] = {}
    trouble: list[str] = []
    try:
        work = work._replace(epoch=_epoch(work.app))
        remove(work.scratch)
        for name, copy in prove(work):
            copies[name] = copy
        trouble = _epoch_fault(work.app, work.epoch)
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


def _save_result(app: App, result: DrillResult) -> DrillResult:
    """Save the result with `last_good` and `offer`; returns it."""
    before, summary = last_result(app), _summary(result)
    append_json(app.backup / "drills.jsonl", summary, durable=True)
    good = summary if result["ok"] else before["last_good"] if before else None
    if result["damaged"]:
        # the fault may be a gap, which only a full snapshot closes
        state.require_full(app, "a drill found the backup damaged")
    complete: DrillResult = {**result, "last_good": good}
    complete["offer"] = "" if result["ok"] else recovery_options(complete)
    write_json(app.backup / "drill.json", complete)
    return complete


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


def _failure(app: App, result: DrillResult) -> HostError:
    """The error of a failed drill, which also goes to the journal with priority "error"."""
    what = f"the backup of {app.name} failed its drill: {'; '.join(result['found'])}"
    if "JOURNAL_STREAM" in os.environ:
        print(f"<3>{what}\n<3>{result['offer']}", file=sys.stderr, flush=True)
    fix = "wait a minute for a full snapshot; then run deploy backup drill again" if result["damaged"] else ""
    where = str(app.backup / "drill.json")
    return HostError(f"{what}. {result['offer']}", where, fix or "deploy backup status", FAILED)


def recovery_options(result: DrillResult) -> str:
    """What can still be restored after a failed drill, as text."""
    times = result["restorable"].values()
    known = [at for at in times if at is not None]
    if len(known) < len(times):
        return "No intact copy of this epoch is known: deploy backup list shows restore points and older epochs"
    good = result.get("last_good")
    up_to = good["up_to"] if good else None
    proven = f"a drill has proven it up to {iso(up_to)}" if up_to else "no drill has ever passed here"
    if known:
        return f"It can be restored up to {iso(min(known))} (deploy restore --at {iso(min(known))}); {proven}"
    return f"The next drill may pass; {proven}" + (f" (deploy restore --at {iso(up_to)})" if up_to else "")


# ---------------------------------------------------------------------------------------------- checks


def _epoch(app: App) -> str:
    """The epoch of this host. Raises HostError if the host has none, or if CURRENT names another one."""
    own = epochs.local(app)
    if own is None:
        raise HostError("nothing is replicated: this host has no epoch", str(app.backup), "deploy backup status")
    bucket = epochs.bucket(app)
    current = epochs.current(app, bucket)
    if current is None or current.epoch != own.epoch:
        reason = f"the backup belongs to {current.host}" if current else "the bucket names no epoch"
        raise HostError(f"this host is superseded: {reason}", str(app.backup), "deploy backup takeover")
    return own.epoch


def _epoch_fault(app: App, epoch: str) -> list[str]:
    """The fault of a drill during which this host's epoch changed: its comparison is not valid."""
    own = epochs.local(app)
    same = own is not None and own.epoch == epoch
    return [] if same else ["the database was restored during the drill: run deploy backup drill again"]


def require_space(scratch: Path, largest: int) -> None:
    """Raises HostError unless a copy of `largest` bytes fits on the disk."""
    disk.require_space(scratch, largest + largest // 10 + disk.SPARE, "a drill")
