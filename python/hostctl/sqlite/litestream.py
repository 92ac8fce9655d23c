"""Litestream, as little of it as is needed: its configuration, its commands, and what its socket tells.

Its own word that everything is on S3 is never taken: what is there is read from the bucket.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from hostctl.backup import epochs as backup_epochs
from hostctl.backup import s3, settings
from hostctl.backup.settings import Backup, Databases
from hostctl.common import http
from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory, remove_tree, unlink, write_atomic
from hostctl.common.timestamps import iso_milliseconds
from hostctl.core.paths import App
from hostctl.host.host import Host

ANSWERS = http.Limits(5.0, 5.0)  # of the socket
LONGEST = 6 * 3600.0  # seconds for a restore or a snapshot
POLL = 0.05
# Times within this are restored to the interval, older ones to the half minute of Litestream's first level. An app that
# always writes makes 4 objects a second, and every start and restore lists them: an hour is 15 requests
L0_RETENTION = 3600
L0_CHECK = 300
LAST_SYNC = 30.0  # seconds that Litestream tries to send the last writes when it is stopped
ADOPTED = "homeport-epoch"
_LTX = re.compile(r"/(\d{4})/([0-9a-f]{16})-([0-9a-f]{16})\.ltx$")


class NoBackupError(HostError):
    """There is no copy in that epoch, or none of that time."""


class Position(NamedTuple):
    """How far Litestream is. Transactions are Litestream's numbers; `behind_since` is when the oldest write that may
    not be on S3 was made (seconds since the epoch; None: there is none), `synced` when it last found nothing to send.
    """

    local_txid: int
    replica_txid: int
    behind_since: float | None
    synced: float | None


class LtxObject(NamedTuple):
    """An LTX object of the bucket; level 9 is a whole snapshot. `at`: when it was stored."""

    level: int
    low: int
    high: int
    at: float


# ---------------------------------------------------------------------------------------------- configuration


def config(app: App, dbs: Databases, epoch: str, server: bool = True) -> str:
    """litestream.yml (JSON is YAML) for an epoch; without `server` as one-off commands want it. No secrets in it."""
    assert dbs.backup is not None  # noqa: S101 - nobody streams without
    backup = dbs.backup
    told: Json = {
        "logging": {"level": "info", "type": "text", "stderr": True},
        "snapshot": {"interval": _seconds(backup.snapshot_interval), "retention": _seconds(backup.retention)},
        "l0-retention": _seconds(L0_RETENTION),
        "l0-retention-check-interval": _seconds(L0_CHECK),
        "validation": {"interval": "1h"},
        "verify-compaction": True,
        "shutdown-sync-timeout": _seconds(LAST_SYNC),
        "shutdown-sync-interval": "250ms",
        "dbs": [_database(backup, epoch, one.name, one.path) for one in dbs.databases],
    }
    if server:
        told["socket"] = {"enabled": True, "path": str(socket_path(app)), "permissions": 0o600}
    return json.dumps(told, indent=2) + "\n"


def _database(backup: Backup, epoch: str, name: str, path: Path) -> Json:
    replica: Json = {
        "type": "s3",
        "bucket": backup.bucket,
        "path": f"{backup.prefix}/{epoch}/{name}",
        "region": backup.region,
        "force-path-style": backup.path_style,
        "sync-interval": _seconds(backup.interval),
        "auto-recover": False,
    }
    if backup.endpoint:
        replica["endpoint"] = backup.endpoint
    told = {"path": str(path), "monitor-interval": _seconds(backup.interval), "busy-timeout": "5s"}
    return {**told, "replica": replica}


def _seconds(value: float) -> str:
    return f"{round(value * 1000)}ms"


def socket_path(app: App) -> Path:
    return app.stream_runtime / "litestream.sock"


def state_directory(path: Path) -> Path:
    """Where Litestream keeps what it knows of a database."""
    return path.with_name(f".{path.name}-litestream")


def adopt(dbs: Databases, epoch: str) -> None:
    """See that what Litestream knows of each database was learnt in this epoch; what was not is forgotten.

    It numbers transactions by epoch: with another's numbers it would write a copy that nobody can restore.
    """
    for database in dbs.databases:
        directory = state_directory(database.path)
        if _adopted(directory) != epoch and database.path.parent.is_dir():
            forget_state(database.path)
            make_directory(directory, 0o700)
            write_atomic(directory / ADOPTED, epoch.encode())


def _adopted(directory: Path) -> str | None:
    try:
        return None if directory.is_symlink() else (directory / ADOPTED).read_text()
    except (OSError, ValueError):
        return None


def forget_state(path: Path) -> None:
    """Forget what Litestream knows of a database: it will begin with a whole snapshot."""
    directory = state_directory(path)
    if directory.is_symlink():
        unlink(directory)
    else:
        remove_tree(directory)


# ---------------------------------------------------------------------------------------------- commands


def restore(app: App, dbs: Databases, epoch: str, name: str, target: Path, at: float | None = None) -> None:
    """Restore a database of an epoch, as of `at` (seconds since the epoch; None: the newest), checked in full.

    `target` must not be there. Raises Nothing when there is no such copy, HostError for everything else.
    """
    when = [] if at is None else ["-timestamp", iso_milliseconds(at)]
    path = str(dbs.named(name).path)
    with _one_off(app, dbs, epoch) as configuration:
        argv = ["restore", "-config", configuration, *when, "-integrity-check", "full", "-o", str(target), path]
        _run(app, dbs, argv, f"{name} cannot be restored from the epoch {epoch}")


def send_pending(app: App, dbs: Databases, epoch: str, snapshot: bool) -> None:
    """Send what is pending of every database that is here, and whole snapshots of them if asked.

    Only while the stream is stopped. Raises HostError when it is not, and when S3 does not take everything.
    """
    if is_running(app):
        raise HostError("Litestream runs: nobody else may read its databases", app.stream_unit, "deploy backup status")
    present = dbs._replace(databases=tuple(one for one in dbs.databases if one.path.exists()))
    adopt(present, epoch)
    with _one_off(app, present, epoch) as configuration:
        argv = ["replicate", "-config", configuration, "-once", *(["-force-snapshot"] if snapshot else [])]
        _run(app, dbs, argv, "what was written cannot be sent to S3")


@contextlib.contextmanager
def _one_off(app: App, dbs: Databases, epoch: str) -> Iterator[str]:
    make_directory(app.backup, 0o700)
    with tempfile.NamedTemporaryFile("w", dir=app.backup, prefix=".litestream-", suffix=".yml") as file:
        file.write(config(app, dbs, epoch, server=False))
        file.flush()
        yield file.name


def environment(app: App, dbs: Databases) -> dict[str, str]:
    """All that Litestream gets: nothing of this process's own, which may hold what breaks its S3 client."""
    keys = settings.credentials(app)
    told = {"PATH": os.defpath, settings.ACCESS: keys.access_key_id, settings.SECRET: keys.secret_access_key}
    if dbs.backup is not None and dbs.backup.ca is not None:
        told["SSL_CERT_FILE"] = str(dbs.backup.ca)
    return told


def _run(app: App, dbs: Databases, argv: Sequence[str], failure: str) -> None:
    try:
        done = subprocess.run(
            [str(dbs.litestream), *argv],
            env=environment(app, dbs),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LONGEST,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{failure}: {type(error).__name__}", str(dbs.litestream), "deploy provision") from None
    if done.returncode != 0:
        raise _failed(app, failure, done.stderr + done.stdout)


def _failed(app: App, failure: str, said: str) -> HostError:
    last = failure_reason(said)
    where = "the backup on S3"
    if "no matching backup files available" in last or "timestamp does not exist" in last:
        return NoBackupError(f"{failure}: there is no copy, or none of that time", where, "deploy backup list")
    for key in settings.credentials(app):
        last = last.replace(key, "...") if key else last
    return HostError(f"{failure}: {last}", where, "deploy backup check tells whether S3 answers as it should")


def failure_reason(said: str) -> str:
    """Why Litestream failed, in its own words: the line that it ends with."""
    lines = [line for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith("Error:")] or lines
    return wrong[-1].removeprefix("Error: ").strip()[:500] if wrong else "it said nothing"


# ---------------------------------------------------------------------------------------------- the socket


def request(app: App, target: str) -> Json:
    """What the running Litestream answers. Raises HostError when it does not run, or does not answer."""
    try:
        answer = http.request(http.Server("localhost", address=socket_path(app)), "GET", target, limits=ANSWERS)
        found = json.loads(answer.body)
    except (OSError, ValueError) as error:
        what = f"Litestream does not run: {type(error).__name__}"
        raise HostError(what, app.stream_unit, "deploy backup status") from None
    return found if isinstance(found, dict) and answer.status == 200 else {}


def is_running(app: App) -> bool:
    """Whether a Litestream of this app runs."""
    with contextlib.suppress(HostError):
        request(app, "/info")
        return True
    return False


def has_open(app: App, path: Path) -> bool:
    """Whether the running Litestream has the database open, and so keeps others' closing from checkpointing."""
    with contextlib.suppress(HostError):
        return int(request(app, f"/txid?path={quote(str(path))}").get("txid", 0)) > 0
    return False


def position(app: App, name: str) -> Position:
    """How far Litestream says it is, without asking S3. Raises HostError when it does not run.

    `replica_txid` may be one upload early: `stored` is what counts.
    """
    path = settings.require(app).named(name).path
    local = int(request(app, f"/txid?path={quote(str(path))}").get("txid", 0))
    synced = _synced(request(app, "/list"), path)
    waiting = [(number, at) for number, at in _kept(path) if synced is None or at > synced]
    since = min((at for _, at in waiting), default=None)
    return Position(local, min((number for number, _ in waiting), default=local + 1) - 1, since, synced)


def oldest_pending(path: Path, after: float) -> float | None:
    """When the oldest write after that time was made that Litestream holds on this disk; None without any."""
    return min((at for _, at in _kept(path) if at > after), default=None)


def _synced(told: Json, path: Path) -> float | None:
    for one in told.get("databases", []):
        if one.get("path") == str(path) and one.get("last_sync_at"):
            # nanoseconds, of which Python 3.11 takes six digits
            text = re.sub(r"(\.\d{6})\d*", r"\1", one["last_sync_at"])
            return datetime.datetime.fromisoformat(text).timestamp()
    return None


def _kept(path: Path) -> Iterator[tuple[int, float]]:
    """Number and time of every transaction that Litestream has on this disk."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(state_directory(path) / "ltx/0"):
            found = _LTX.search(f"/0000/{entry.name}")
            if found:
                with contextlib.suppress(FileNotFoundError):
                    yield int(found[3], 16), entry.stat().st_mtime


def local_txid(path: Path) -> int:
    """The newest transaction that Litestream has taken from the database, running or not; 0 without any."""
    return max((number for number, _ in _kept(path)), default=0)


def wait_until_stored(app: App, name: str, patience: float, host: Host) -> int:
    """Wait until everything that is committed now is on S3; returns its number. Nothing is asked of Litestream but to
    tell, so this is safe for every app. Raises HostError after `patience` seconds.
    """
    dbs, mine = settings.require(app), backup_epochs.local(app)
    if mine is None:
        raise HostError("nothing streams from here: this host has no epoch", str(app.backup), "deploy backup status")
    path, begun, deadline = dbs.named(name).path, time.time(), host.clock() + patience
    while (wanted := synced_txid(app, path, begun)) is None:
        _patient(name, host, deadline, patience)
    store = backup_epochs.bucket(app)
    while stored_txid(store, mine.epoch, name, wanted) < wanted:
        _patient(name, host, deadline, patience)
    return wanted


def synced_txid(app: App, path: Path, since: float) -> int | None:
    """The number that Litestream reached in a look at the database that began after `since`; None before that, and
    while it does not run.
    """
    with contextlib.suppress(HostError):
        return _look(request(app, "/debug/sync-status"), path, since)
    return None


def _look(told: Json, path: Path, since: float) -> int | None:
    for one in told.get("databases", []):
        begun = _synced({"databases": [{"path": one.get("path"), "last_sync_at": one.get("started_at")}]}, path)
        if begun is not None and begun > since and one.get("operation") == "sync" and _has_read(one):
            return int(one.get("txid", 0))
    return None


def _has_read(told: Json) -> bool:
    """Whether a look has taken what was there. What it does last may wait long for others: a log beyond 500 MB is cut,
    which no reader lets it, hostctl's own neither.
    """
    return not told.get("active") or str(told.get("phase")).startswith("checkpoint_")


def _patient(name: str, host: Host, deadline: float, patience: float) -> None:
    if host.clock() >= deadline:
        what = f"what was written to {name} is not on S3 after {patience:g} s"
        raise HostError(what, "the backup on S3", "deploy backup status")
    host.sleep(POLL)


# ---------------------------------------------------------------------------------------------- what is on S3


def stored_txid(store: s3.Bucket, epoch: str, name: str, near: int = 0) -> int:
    """The newest transaction of the epoch that is on S3; 0 without any. `near` saves a long listing."""
    root = f"{store.prefix}/{epoch}/{name}/"
    after = f"{root}0000/{max(near - 1, 0):016x}-" if near > 1 else ""
    found = _objects(store.list(f"{root}0000/", after)) if after else []
    return max((one.high for one in found or objects(store, epoch, name)), default=0)


def objects(store: s3.Bucket, epoch: str, name: str) -> list[LtxObject]:
    """Every LTX object of a database in an epoch."""
    return _objects(store.list(f"{store.prefix}/{epoch}/{name}/"))


def _objects(listing: Iterable[s3.Object]) -> list[LtxObject]:
    found = ((_LTX.search(one.key), one.modified) for one in listing)
    return [LtxObject(int(m[1]), int(m[2], 16), int(m[3], 16), at) for m, at in found if m]


def restorable_times(app: App, dbs: Databases, epoch: str, name: str) -> list[float]:
    """The times to which a database of an epoch can be restored (to the second), oldest first. Raises HostError."""
    return times_of(objects(backup_epochs.bucket(app), epoch, name))


def times_of(found: Sequence[LtxObject]) -> list[float]:
    """The times of the objects from the first snapshot on: what is older has nothing to stand on."""
    first = min((one.at for one in found if one.low == 1), default=None)
    return [] if first is None else sorted({one.at for one in found if one.at >= first})


def restorable_range(app: App, dbs: Databases, epoch: str, name: str) -> Json | None:
    """From when to when a database of an epoch can be restored; None when it cannot be. Raises HostError."""
    found = restorable_times(app, dbs, epoch, name)
    return {"from": found[0], "to": found[-1]} if found else None


def first_stored(found: Sequence[LtxObject]) -> float | None:
    """When the epoch's very first write was stored; None when that has been pruned, or there is nothing."""
    return min((one.at for one in found if one.low == 1 and (one.level != 9 or one.high == 1)), default=None)


def fetch(
    app: App, dbs: Databases, epochs: Sequence[backup_epochs.Epoch], name: str, target: Path, at: float | None = None
) -> backup_epochs.Epoch | None:
    """Restore a database as it counted at a time (None: the newest), from whichever epoch of the chain has it.

    Returns that epoch; None when no epoch ever had such a database. Raises HostError, and Nothing for a time that was
    pruned.
    """
    store = backup_epochs.bucket(app)
    for epoch, until in backup_epochs.candidates(epochs, at):
        found = objects(store, epoch.epoch, name)
        if not found or _not_begun(found, until, 0):
            continue
        try:
            restore(app, dbs, epoch.epoch, name, target, until)
            return epoch
        except NoBackupError:
            if not _not_begun(found, until, 1):
                raise
    return None


def _not_begun(found: Sequence[LtxObject], until: float | None, grace: float) -> bool:
    """Whether the epoch had stored nothing yet at that time. Stored times are cut to the second, so up to a `grace` of
    one second after that only a try tells.
    """
    first = first_stored(found)
    return first is not None and until is not None and until < first + grace
