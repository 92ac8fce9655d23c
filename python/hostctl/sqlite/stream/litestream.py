"""Litestream: its configuration, its commands, the answers of its socket, and its objects on S3.

Whether a write is on S3 is read from the bucket, never from Litestream's own statement. It runs as the app's user. That
user's other processes cannot read its memory, which has the bucket's keys: nobody but root may read its program.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from hostctl.backup import epochs as backup_epochs
from hostctl.backup import s3, settings
from hostctl.backup.settings import Backup, Database, Databases
from hostctl.common.documents import TimeRange
from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory, remove_tree, unlink, write_atomic
from hostctl.common.net import http
from hostctl.common.timestamps import iso_milliseconds
from hostctl.core.paths import App
from hostctl.host.boundary import handles, peers, trees
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.host.host import Host
from hostctl.sqlite.database import owner

ANSWERS = http.Limits(5.0, 5.0)  # of a request to the socket
LONGEST = 6 * 3600.0  # seconds that a restore or a snapshot may take
POLL = 0.05
# Seconds. A younger time is restored to the sync interval, an older one to the 30 s of Litestream's first level. An app
# that always writes makes 4 objects a second, and every start and restore lists them: an hour is 15 requests
L0_RETENTION = 3600
L0_CHECK = 300
LAST_SYNC = 30.0  # seconds for which Litestream tries to send the last writes when it is stopped
ADOPTED = "homeport-epoch"
SOCKETS = "socket"  # the app's user's directory, in one of root's
OLD_SOCKET = "litestream.sock"  # of the Litestream that an older Homeport ran as root, until it is restarted
_LTX = re.compile(r"/(\d{4})/([0-9a-f]{16})-([0-9a-f]{16})\.ltx$")


class NoBackupError(HostError):
    """The epoch has no copy of the database, or none of that time."""


class Position(NamedTuple):
    """How far Litestream has read and sent, in its numbers of transactions; times in seconds since the epoch.

    `behind_since`: the time of the oldest write that may not be on S3 (None: there is none). `synced`: when Litestream
    last had nothing to send.
    """

    local_txid: int
    replica_txid: int
    behind_since: float | None
    synced: float | None


class LtxObject(NamedTuple):
    """An LTX object of the bucket: transactions `low` to `high`, stored `at`; level 9 is a full snapshot."""

    level: int
    low: int
    high: int
    at: float


# ---------------------------------------------------------------------------------------------- configuration


def config(app: App, dbs: Databases, epoch: str, server: bool = True) -> str:
    """The text of litestream.yml (JSON is YAML) for an epoch, without secrets. `server`: with the socket, which one-off
    commands do not have.
    """
    assert dbs.backup is not None  # noqa: S101 - callers check that a backup is configured
    backup = dbs.backup
    document: Json = {
        "logging": {"level": "info", "type": "text", "stderr": True},
        "snapshot": {"interval": _seconds(backup.snapshot_interval), "retention": _seconds(backup.retention)},
        "l0-retention": _seconds(L0_RETENTION),
        "l0-retention-check-interval": _seconds(L0_CHECK),
        "validation": {"interval": "1h"},
        "verify-compaction": True,
        "shutdown-sync-timeout": _seconds(LAST_SYNC),
        "shutdown-sync-interval": "250ms",
        "dbs": [_database(backup, epoch, database.name, database.path) for database in dbs.databases],
    }
    if server:
        document["socket"] = {"enabled": True, "path": str(socket_path(app)), "permissions": 0o600}
    return json.dumps(document, indent=2) + "\n"


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
    database = {"path": str(path), "monitor-interval": _seconds(backup.interval), "busy-timeout": "5s"}
    return {**database, "replica": replica}


def _seconds(value: float) -> str:
    return f"{round(value * 1000)}ms"


def socket_path(app: App) -> Path:
    return app.stream_runtime / SOCKETS / "litestream.sock"


def state_directory(path: Path) -> Path:
    """The directory of Litestream's state of a database."""
    return path.with_name(f".{path.name}-litestream")


def adopt(dbs: Databases, epoch: str) -> None:
    """Delete Litestream's state of each database unless it belongs to this epoch, and mark new state with the epoch.

    Litestream numbers transactions by epoch: with the numbers of another one its copy could not be restored.
    """
    for database in dbs.databases:
        _give_up_state(database, dbs.user)
        owner.run(dbs.user, partial(_adopt, database.path, epoch))


def _give_up_state(database: Database, user: str) -> None:
    """Give the state that an older Homeport's Litestream wrote as root to the app's user."""
    name = str(state_directory(Path(database.name)))
    with contextlib.suppress(FileNotFoundError), handles.owned(database.directory) as directory:
        found = directory.stat(name)
        if found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            trees.give_up(directory, name, owner.find(user))


def _adopt(path: Path, epoch: str) -> None:
    directory = state_directory(path)
    if _adopted(directory) != epoch and path.parent.is_dir():
        forget_state(path)
        make_directory(directory, 0o700)
        write_atomic(directory / ADOPTED, epoch.encode())


def _adopted(directory: Path) -> str | None:
    try:
        return None if directory.is_symlink() else (directory / ADOPTED).read_text()
    except (OSError, ValueError):
        return None


def forget_state(path: Path) -> None:
    """Delete Litestream's state of a database: it then begins with a full snapshot."""
    directory = state_directory(path)
    if directory.is_symlink():
        unlink(directory)
    else:
        remove_tree(directory)


# ---------------------------------------------------------------------------------------------- commands


def restore(app: App, dbs: Databases, epoch: str, name: str, target: Path, at: float | None = None) -> None:
    """Restore a database of an epoch as of `at` (seconds since the epoch; None: the newest) and check its integrity.

    `target` must not exist, and is in a directory of the app's user.

    Raises NoBackupError when there is no such copy, HostError for every other failure.
    """
    when = [] if at is None else ["-timestamp", iso_milliseconds(at)]
    path = str(dbs.named(name).path)
    failure = f"{name} cannot be restored from the epoch {epoch}"
    owner.run(dbs.user, lambda: target.parent.mkdir(mode=0o700, parents=True, exist_ok=True))
    with _one_off(app, dbs, epoch) as configuration:
        # without a copy to restore it then exits with 0 and writes no file; every other failure exits with 1
        argv = ["restore", *_config(configuration), *when, "-if-replica-exists", "-integrity-check", "full"]
        _run(app, dbs, configuration, [*argv, "-o", str(target), path], failure)
    if not owner.run(dbs.user, target.exists):
        what = f"{failure}: there is no copy, or none of that time"
        raise NoBackupError(what, "the backup on S3", "deploy backup list")


def send_pending(app: App, dbs: Databases, epoch: str, snapshot: bool) -> None:
    """Send the pending transactions of every existing database; with `snapshot` a full snapshot of each.

    Raises HostError when Litestream runs, and when S3 does not accept everything.
    """
    if is_running(app):
        raise HostError(
            "Litestream runs, and a second one must not read its databases", app.stream_unit, "deploy backup status"
        )
    present = dbs._replace(databases=dbs.existing())
    adopt(present, epoch)
    with _one_off(app, present, epoch) as configuration:
        argv = ["replicate", *_config(configuration), "-once", *(["-force-snapshot"] if snapshot else [])]
        _run(app, dbs, configuration, argv, "the pending writes cannot be sent to S3")


@contextlib.contextmanager
def _one_off(app: App, dbs: Databases, epoch: str) -> Iterator[int]:
    """A handle to the configuration, in memory: Litestream reads it as another user, and it has no name for others."""
    with os.fdopen(os.memfd_create("litestream.yml"), "wb") as file:
        file.write(config(app, dbs, epoch, server=False).encode())
        file.flush()
        yield file.fileno()


def _config(configuration: int) -> list[str]:
    return ["-config", f"/dev/fd/{configuration}"]


def environment(app: App, dbs: Databases) -> dict[str, str]:
    """Litestream's whole environment. It inherits no variable, since some change how its S3 client works."""
    keys = settings.credentials(app)
    variables = {"PATH": os.defpath, settings.ACCESS: keys.access_key_id, settings.SECRET: keys.secret_access_key}
    if dbs.backup is not None and dbs.backup.ca is not None:
        variables["SSL_CERT_FILE"] = str(dbs.backup.ca)
    return variables


def _run(app: App, dbs: Databases, configuration: int, argv: Sequence[str], failure: str) -> None:
    try:
        done = subprocess.run(
            [str(dbs.litestream), *argv],
            preexec_fn=owner.become(dbs.user),
            env=environment(app, dbs),
            pass_fds=(configuration,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LONGEST,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise HostError(f"{failure}: {type(error).__name__}", str(dbs.litestream), "deploy provision") from None
    if done.returncode != 0:
        raise _failed(app, failure, done.stderr + done.stdout)


def _failed(app: App, failure: str, output: str) -> HostError:
    reason = failure_reason(output)
    for key in settings.credentials(app):
        reason = reason.replace(key, "...") if key else reason
    return HostError(f"{failure}: {reason}", "the backup on S3", "run deploy backup check to test the answers of S3")


def failure_reason(output: str) -> str:
    """The reason of a failure in Litestream's output: its last line with `Error:`, else its last line."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error:")] or lines
    return errors[-1].removeprefix("Error: ").strip()[:500] if errors else "it printed no message"


# ---------------------------------------------------------------------------------------------- the socket


def request(app: App, target: str) -> Json:
    """The answer of the running Litestream; empty for an error. Raises HostError when it does not run or answer."""
    return requests(app, target)[0]


def requests(app: App, *targets: str) -> list[Json]:
    """As `request`, of several answers; one process asks for all."""
    try:
        return _requests(app, targets)
    except OSError as error:
        what = f"Litestream does not run: {type(error).__name__}"
        raise HostError(what, app.stream_unit, "deploy backup status") from None


def _requests(app: App, targets: Sequence[str]) -> list[Json]:
    name = str(socket_path(app).relative_to(app.stream_runtime))
    with Directory(app.stream_runtime) as directory:
        old, sockets = directory.stat(OLD_SOCKET), directory.stat(SOCKETS)
    if old is not None or (sockets is not None and sockets.st_uid == 0):
        # the unit of an older Homeport runs it as root, whose directory this is
        root, name = User("root", 0, 0, ()), OLD_SOCKET if old is not None else name
        return [_ask(app, name, root, target) for target in targets]
    http.load()
    user = settings.require(app).user
    return owner.run(user, lambda: [_ask(app, name, owner.find(user), target) for target in targets])


def control_group(app: App) -> str | None:
    """The control group in which systemd runs Litestream; a test has none."""
    return f"/system.slice/{app.stream_unit}"


def _ask(app: App, name: str, user: User, target: str) -> Json:
    """The answer of the socket `name` of that user's, in the unit's control group. Raises OSError, HostError."""
    connection = peers.connect(app.stream_runtime, name, user, control_group(app), ANSWERS.connect)
    answer = http.request(http.Server("localhost", address=connection), "GET", target, limits=ANSWERS)
    try:
        document = json.loads(answer.body)
    except ValueError:
        raise http.MalformedAnswerError("the answer is no JSON") from None
    return document if isinstance(document, dict) and answer.status == 200 else {}


def is_running(app: App) -> bool:
    """Whether the Litestream of this app runs."""
    with contextlib.suppress(HostError):
        request(app, "/info")
        return True
    return False


def has_open(app: App, path: Path) -> bool:
    """Whether the running Litestream has the database open. Then no other process checkpoints by closing it."""
    with contextlib.suppress(HostError):
        return int(request(app, f"/txid?path={quote(str(path))}").get("txid", 0)) > 0
    return False


def position(app: App, name: str) -> Position:
    """The position that Litestream reports; S3 is not asked. Raises HostError when it does not run.

    `replica_txid` may be one upload ahead of S3: `stored_txid` is exact.
    """
    database = settings.require(app).named(name)
    read, listed = requests(app, f"/txid?path={quote(str(database.path))}", "/list")
    local, synced = int(read.get("txid", 0)), _synced(listed, database.path)
    waiting = [(number, at) for number, at in _local_transactions(database) if synced is None or at > synced]
    since = min((at for _, at in waiting), default=None)
    return Position(local, min((number for number, _ in waiting), default=local + 1) - 1, since, synced)


def oldest_pending(database: Database, after: float) -> float | None:
    """The time of the oldest transaction after that time in Litestream's state on this disk; None without any."""
    return min((at for _, at in _local_transactions(database) if at > after), default=None)


def _synced(answer: Json, path: Path) -> float | None:
    """When the database was last synced, from the answer to `/list`."""
    for database in answer.get("databases", []):
        if database.get("path") == str(path) and database.get("last_sync_at"):
            return _seconds_since_epoch(database["last_sync_at"])
    return None


def _seconds_since_epoch(text: str) -> float:
    """A time in RFC 3339. Litestream writes nanoseconds, and Python 3.11 reads at most six digits."""
    return datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text)).timestamp()


def _local_transactions(database: Database) -> list[tuple[int, float]]:
    """Number and time of every transaction in Litestream's state on this disk."""
    name = str(state_directory(Path(database.name)) / "ltx/0")
    try:
        with handles.owned(database.directory) as directory, directory.within(name) as transactions:
            return [
                (int(match[3], 16), found.st_mtime)
                for each in transactions.names()
                if (match := _LTX.search(f"/0000/{each}")) and (found := transactions.stat(each))
            ]
    except OSError:
        return []  # there is none yet, or the app has put something else there


def local_txid(database: Database) -> int:
    """The newest transaction that Litestream has read from the database, running or not; 0 without any."""
    return max((number for number, _ in _local_transactions(database)), default=0)


def wait_until_stored(app: App, name: str, patience: float, host: Host) -> int:
    """Wait until every transaction committed before the call is on S3; returns the number of the newest one.

    Litestream is only asked for its state, so this is safe for every app. Raises HostError after `patience` seconds.
    """
    dbs, local = settings.require(app), backup_epochs.local(app)
    if local is None:
        raise HostError("this host has no epoch, so nothing streams to S3", str(app.backup), "deploy backup status")
    path, begun, deadline = dbs.named(name).path, time.time(), host.clock() + patience
    while (txid := synced_txid(app, path, begun)) is None:
        _pause(name, host, deadline, patience)
    store = backup_epochs.bucket(app)
    while stored_txid(store, local.epoch, name, txid) < txid:
        _pause(name, host, deadline, patience)
    return txid


def synced_txid(app: App, path: Path, since: float) -> int | None:
    """The number that Litestream reached in a sync of the database that began after `since`; None before that, and
    while it does not run.
    """
    with contextlib.suppress(HostError):
        return _txid_of_sync(request(app, "/debug/sync-status"), path, since)
    return None


def _txid_of_sync(answer: Json, path: Path, since: float) -> int | None:
    for sync in answer.get("databases", []):
        if sync.get("path") != str(path) or not sync.get("started_at") or sync.get("operation") != "sync":
            continue
        if _seconds_since_epoch(sync["started_at"]) > since and _has_read(sync):
            return int(sync.get("txid", 0))
    return None


def _has_read(sync: Json) -> bool:
    """Whether a sync has read all transactions. Its last phase may wait long: it truncates a log over 500 MB, and every
    open read transaction prevents that, hostctl's included.
    """
    return not sync.get("active") or str(sync.get("phase")).startswith("checkpoint_")


def _pause(name: str, host: Host, deadline: float, patience: float) -> None:
    if host.clock() >= deadline:
        what = f"the newest writes to {name} are not on S3 after {patience:g} s"
        raise HostError(what, "the backup on S3", "deploy backup status")
    host.sleep(POLL)


# ---------------------------------------------------------------------------------------------- objects on S3


def stored_txid(store: s3.Bucket, epoch: str, name: str, near: int = 0) -> int:
    """The newest transaction of the epoch that is on S3; 0 without any. With `near`, only the keys from that number on
    are listed, unless there is none.
    """
    root = f"{store.prefix}/{epoch}/{name}/"
    after = f"{root}0000/{max(near - 1, 0):016x}-" if near > 1 else ""
    newest = _objects(store.list(f"{root}0000/", after)) if after else []
    return max((ltx.high for ltx in newest or objects(store, epoch, name)), default=0)


def objects(store: s3.Bucket, epoch: str, name: str) -> list[LtxObject]:
    """Every LTX object of a database in an epoch."""
    return _objects(store.list(f"{store.prefix}/{epoch}/{name}/"))


def _objects(listing: Iterable[s3.Object]) -> list[LtxObject]:
    matches = ((_LTX.search(entry.key), entry.modified) for entry in listing)
    return [LtxObject(int(m[1]), int(m[2], 16), int(m[3], 16), at) for m, at in matches if m]


def restorable_times(app: App, dbs: Databases, epoch: str, name: str) -> list[float]:
    """The times to which a database of an epoch can be restored (to the second), oldest first. Raises HostError."""
    return times_of(objects(backup_epochs.bucket(app), epoch, name))


def times_of(ltx_objects: Sequence[LtxObject]) -> list[float]:
    """The times of the objects, oldest first, from the first snapshot on: an older one cannot be restored."""
    first = min((ltx.at for ltx in ltx_objects if ltx.low == 1), default=None)
    return [] if first is None else sorted({ltx.at for ltx in ltx_objects if ltx.at >= first})


def restorable_range(app: App, dbs: Databases, epoch: str, name: str) -> TimeRange | None:
    """The first and last time to which a database of an epoch can be restored; None without any. Raises HostError."""
    times = restorable_times(app, dbs, epoch, name)
    return {"from": times[0], "to": times[-1]} if times else None


def first_stored(ltx_objects: Sequence[LtxObject]) -> float | None:
    """When the first write of the epoch was stored; None when that object was pruned, or there is none."""
    return min((ltx.at for ltx in ltx_objects if ltx.low == 1 and (ltx.level != 9 or ltx.high == 1)), default=None)


def fetch(
    app: App, dbs: Databases, epochs: Sequence[backup_epochs.Epoch], name: str, target: Path, at: float | None = None
) -> backup_epochs.Epoch | None:
    """Restore a database as of a time (None: the newest), from the epoch of the chain that was current then.

    Returns that epoch; None when no epoch has a database of that name. Raises HostError, and NoBackupError for a time
    that was pruned.
    """
    store = backup_epochs.bucket(app)
    for epoch, until in backup_epochs.candidates(epochs, at):
        ltx_objects = objects(store, epoch.epoch, name)
        if not ltx_objects or _not_begun(ltx_objects, until, 0):
            continue
        try:
            restore(app, dbs, epoch.epoch, name, target, until)
            return epoch
        except NoBackupError:
            if not _not_begun(ltx_objects, until, 1):
                raise
    return None


def _not_begun(ltx_objects: Sequence[LtxObject], until: float | None, grace: float) -> bool:
    """Whether the epoch had stored nothing yet at that time. S3 reports whole seconds: with a `grace` of one second the
    result may be wrong for a time within it, and only a restore shows that.
    """
    first = first_stored(ltx_objects)
    return first is not None and until is not None and until < first + grace
