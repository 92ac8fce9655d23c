"""pgBackRest: its configuration, its commands, and restores. Every epoch has a repository of its own.

The configuration file names the epoch into which this host archives; `--repo1-path` selects another one.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from hostctl.backup import epochs as backup_epochs
from hostctl.backup import settings
from hostctl.backup.epochs import Epoch
from hostctl.backup.settings import Backup, Credentials
from hostctl.common.errors import USAGE, HostError
from hostctl.common.timestamps import utc
from hostctl.core.paths import App
from hostctl.host.boundary import users
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.postgres.archive import timelines, wal_stream
from hostctl.postgres.archive.timelines import Base, Line
from hostctl.postgres.server import cluster

PROGRAM = "pgbackrest"
QUICK = 120.0  # seconds for a command that moves no data
WHOLE = 24 * 3600.0  # seconds for a command that does
PROCESSES = 4  # at most, for one command
PUSH = 10  # seconds that the server's archiver waits for one segment before it tries again
IO_TIMEOUT = 30  # seconds that the store may take for an answer
LOG_END = 8192  # bytes of a log that are read
ARCHIVE = 60  # seconds that a backup waits for its WAL to be archived


class PointPosition(TypedDict):
    """The position in a restore point's document."""

    epoch: str
    name: str
    timeline: int
    lsn: str


class Point(NamedTuple):
    """A restore point: its name in the WAL, its time and its position. `lsn` is in PostgreSQL's format."""

    name: str
    at: float
    epoch: str
    timeline: int
    lsn: str


class Restored(NamedTuple):
    """A restored data directory. A server that is started with `settings` recovers to the requested instant.

    `tail` is the number of bytes of WAL from the WAL stream; `settings` hold no secret.
    """

    epoch: Epoch
    label: str
    timeline: int
    settings: Mapping[str, str]
    tail: int
    seconds: float


class Plan(NamedTuple):
    """What a restore uses: a base backup in the repository `home`, and the WAL of epochs (`sources`, newest first)."""

    epoch: Epoch
    base: Base
    home: str
    timeline: int
    until: float | None
    sources: tuple[str, ...]
    histories: Mapping[int, str]
    system: str


class Limits(TypedDict):
    """The start and the stop of a base backup, as WAL positions or segments."""

    start: str
    stop: str


class Times(TypedDict):
    """The start and the stop of a base backup, in seconds since the epoch."""

    start: int
    stop: int


class Sizes(TypedDict):
    """Bytes of a base backup, and what it added to the repository (`delta`)."""

    size: int
    repository: dict[str, int]


class BackupInfo(TypedDict):
    """A base backup in the output of `pgbackrest info`: the keys that are read here."""

    label: str
    type: str
    lsn: Limits
    timestamp: Times
    info: Sizes
    archive: Limits
    error: NotRequired[bool]


class Stanza(TypedDict):
    """A stanza in the output of `pgbackrest info`."""

    backup: NotRequired[list[BackupInfo]]


# ---------------------------------------------------------------------------------------------- configuration


def render(app: App, backup: Backup, keys: Credentials, epoch: str) -> str:
    """The text of the configuration file, which holds the keys."""
    server = cluster.live_server(app)
    options = _repository(backup, keys, epoch) | _behaviour(app)
    lines = [f"{name}={value}" for name, value in options.items()]
    # a server that stops waits for its archiver, and that for S3: the rest is archived after the next start
    lines += ["", "[global:archive-push]", f"archive-timeout={PUSH}"]
    lines += ["", f"[{app.name}]", f"pg1-path={server.data}", f"pg1-socket-path={server.socket}"]
    return "\n".join(["[global]", *lines, f"pg1-user={cluster.SUPERUSER}", "pg1-port=5432", ""])


def _repository(backup: Backup, keys: Credentials, epoch: str) -> dict[str, object]:
    suffix = "amazonaws.com.cn" if backup.region.startswith("cn-") else "amazonaws.com"
    parts = urllib.parse.urlsplit(backup.endpoint or f"https://s3.{backup.region}.{suffix}")
    options: dict[str, object] = {
        "repo1-type": "s3",
        "repo1-path": repository_path(backup, epoch),
        "repo1-s3-bucket": backup.bucket,
        "repo1-s3-region": backup.region,
        "repo1-s3-endpoint": parts.hostname,
        "repo1-storage-port": parts.port or 443,
        "repo1-s3-uri-style": "path" if backup.path_style or "." in backup.bucket else "host",
        "repo1-s3-key": keys.access_key_id,
        "repo1-s3-key-secret": keys.secret_access_key,
        "repo1-bundle": "y",
        "repo1-retention-full-type": "time",
        "repo1-retention-full": max(1, math.ceil(backup.retention / 86_400)),
    }
    options |= {"repo1-storage-ca-file": backup.ca} if backup.ca else {}
    if backup.encrypted:
        options |= {"repo1-cipher-type": "aes-256-cbc", "repo1-cipher-pass": keys.encryption_key}
    return options


def _behaviour(app: App) -> dict[str, object]:
    return {
        "archive-async": "y",
        "expire-auto": "n",
        "archive-timeout": ARCHIVE,
        "io-timeout": IO_TIMEOUT,
        "spool-path": app.cluster / "spool",
        "lock-path": app.cluster / "lock",
        "process-max": max(1, min(PROCESSES, (os.cpu_count() or 1) // 2)),
        "compress-type": "zst",
        "start-fast": "y",
        # asynchronous archiving reports errors in its log file only
        "log-path": log_file(app).parent,
        "log-level-file": "warn",
        "log-level-console": "off",
        "log-level-stderr": "warn",
    }


def log_file(app: App) -> Path:
    """The log of asynchronous archiving."""
    return app.cluster / "log" / f"{app.name}-archive-push-async.log"


def last_error(app: App) -> str | None:
    """The last error of asynchronous archiving; None without one."""
    try:
        end = cluster.as_owner(lambda: _end_of(log_file(app)))
    except OSError:
        return None
    lines = [line for line in end.splitlines() if "ERROR:" in line]
    return _redact(app, error_text(lines[-1])) if lines else None


def _end_of(file: Path) -> str:
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - LOG_END))
        return content.read().decode(errors="replace")


def repository_path(backup: Backup, epoch: str) -> str:
    """The path of an epoch's repository in the bucket."""
    return f"/{backup.prefix}/{epoch}/pg"


def configure(app: App, epoch: str) -> bool:
    """Write the configuration for archiving into an epoch; returns whether anything changed. Raises HostError."""
    backup, keys = settings.backup(app), settings.credentials(app)
    if backup.encrypted and not keys.encryption_key:
        what = "the backup's encryption key is not on this host"
        fix = "export the secret that backup.encryption_key names, and run deploy provision"
        raise HostError(what, str(app.backup_credentials), fix, USAGE)
    cluster.make_directories(app)
    for name in ("spool", "lock", "log"):
        cluster.own_directory(app, name)
    text = render(app, backup, keys, epoch).encode()
    if app.pgbackrest.exists() and app.pgbackrest.read_bytes() == text:
        return False
    with Directory(app.pgbackrest.parent) as directory:
        directory.write(app.pgbackrest.name, text, _reader(), 0o640)
    return True


def _reader() -> User | None:
    """Root, with the group that may read the configuration; None where this process is not root."""
    return User("root", 0, users.find(cluster.SUPERUSER).gid, ()) if os.geteuid() == 0 else None


# ---------------------------------------------------------------------------------------------- commands


def command_line(app: App, command: str, *options: str) -> list[str]:
    """The command line of pgBackRest. No option is a secret."""
    return [PROGRAM, f"--config={app.pgbackrest}", f"--stanza={app.name}", *options, command]


def run(app: App, command: str, *options: str, timeout: float = QUICK) -> str:
    """Run a command of pgBackRest as the user postgres; returns its output. Raises HostError with its error."""
    failure = f"pgBackRest: {command} failed"
    # its sessions are the superuser's, in the database postgres
    session = cluster.session_options(cluster.live_server(app), cluster.SUPERUSER, {"statement_timeout": "0"})
    env = {**cluster.client_environment(), "PGOPTIONS": session}
    try:
        done = cluster.run_as_postgres(command_line(app, command, *options), timeout=timeout, env=env)
    except FileNotFoundError:
        raise HostError(f"{failure}: it is not installed", PROGRAM, "deploy provision") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"{failure}: it took longer than {timeout:g} s", "the backup on S3", _FIX) from None
    if done.returncode != 0:
        raise HostError(f"{failure}: {_redact(app, error_text(done.stderr + done.stdout))}", "the backup on S3", _FIX)
    return done.stdout


_FIX = "deploy backup check shows whether S3 answers correctly"


def error_text(printed: str) -> str:
    """The error messages in pgBackRest's output, without times and processes, else its last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [re.sub(r"^.*?ERROR: *(\[\d+\]: *)?", "", line) for line in lines if "ERROR:" in line]
    return "; ".join(errors[:2] or lines[-1:] or ["it wrote no message"])[:500]


def _redact(app: App, text: str) -> str:
    """The text without the backup's keys."""
    for key in settings.credentials(app):
        text = text.replace(key, "...") if key else text
    return text


def create_repository(app: App) -> None:
    """Create the epoch's repository for the cluster. Raises HostError. Idempotent."""
    run(app, "stanza-create", "--no-online")


def backup(app: App, kind: str) -> None:
    """Take a base backup, "full" or "incr". Raises HostError."""
    run(app, "backup", f"--type={kind}", timeout=WHOLE)


def restorable_range(app: App) -> tuple[float, float]:
    """The oldest and the newest instant that can be restored, in seconds since the epoch. Raises HostError."""
    epochs = backup_epochs.chain(backup_epochs.bucket(app))
    ends = [oldest[0].ended for epoch in epochs if (oldest := bases(app, epoch.epoch))]
    if not ends:
        raise HostError("there is no base backup to restore", "the backup on S3", "deploy backup status")
    return min(ends), newest_instant(app)


def newest_instant(app: App) -> float:
    """The newest instant that is on S3, by the state that the WAL stream wrote last."""
    if (lag := wal_stream.lag(app)) is not None:
        return time.time() - lag
    state = wal_stream.written_state(app)
    return (state["behind_since"] or state["at"]) if state is not None else time.time()


def expire(app: App) -> None:
    """Delete backups older than the retention. Only after a drill has proven a newer one. Raises HostError."""
    run(app, "expire", timeout=WHOLE)


def check(app: App) -> None:
    """Let the running server archive a segment, and check that it arrives. Raises HostError."""
    run(app, "check", f"--archive-timeout={ARCHIVE}", timeout=2 * QUICK)


def bases(app: App, epoch: str) -> list[Base]:
    """The base backups of an epoch, oldest first. Raises HostError."""
    path = repository_path(settings.backup(app), epoch)
    return parse_info(run(app, "info", "--output=json", f"--repo1-path={path}"))


def parse_info(text: str) -> list[Base]:
    """The base backups in the JSON of `info`, without those with errors. Raises HostError for other text."""
    try:
        stanzas: list[Stanza] = json.loads(text)
        return [_base(backup) for stanza in stanzas for backup in stanza.get("backup", []) if not backup.get("error")]
    except (ValueError, KeyError, TypeError) as error:
        what = f"the output of pgbackrest info is invalid: {type(error).__name__}: {error}"
        raise HostError(what, "the backup on S3", "report it with the version of pgBackRest") from None


def _base(backup: BackupInfo) -> Base:
    start, stop = timelines.parse_lsn(backup["lsn"]["start"]), timelines.parse_lsn(backup["lsn"]["stop"])
    times, sizes = backup["timestamp"], backup["info"]
    timeline = int(backup["archive"]["start"][:8], 16)
    stored = int(sizes["repository"].get("delta", 0))
    begun, ended = float(times["start"]), float(times["stop"])
    return Base(backup["label"], backup["type"], begun, ended, timeline, start, stop, int(sizes["size"]), stored)


# ---------------------------------------------------------------------------------------------- restore


def restore(app: App, into: Path, at: float | None = None, point: Point | None = None) -> Restored:
    """Restore a base backup and the WAL stream into a new directory of the user postgres.

    Recovery goes to the instant `at`, to the restore point `point`, or without both to the end. Raises HostError.
    """
    started = time.monotonic()
    store = backup_epochs.bucket(app)
    chosen = plan(app, backup_epochs.chain(store), at, point)
    cluster.make_postgres_directory(into)
    options = [f"--set={chosen.base.label}", f"--repo1-path={chosen.home}", f"--pg1-path={into}"]
    run(app, "restore", *options, "--type=none", timeout=WHOLE)
    streamed = 0
    for epoch in reversed(chosen.sources):
        streamed += wal_stream.restore_segments(app, store, epoch, into)
    for number, text in chosen.histories.items():
        cluster.write_file(into / "pg_wal" / f"{number:08X}.history", text.encode())
    cluster.write_file(into / "recovery.signal", b"")
    recovery = _recovery_settings(app, into, chosen, point)
    return Restored(chosen.epoch, chosen.base.label, chosen.timeline, recovery, streamed, time.monotonic() - started)


def plan(app: App, epochs: Sequence[Epoch], at: float | None, point: Point | None) -> Plan:
    """The plan of a restore. Raises HostError (usage) when no base backup leads to the target."""
    target = point.at if point else at
    reachable = [epoch for epoch in epochs if point is None or epoch.epoch == point.epoch]
    for epoch, until in backup_epochs.candidates(reachable, target):
        number = epochs.index(epoch)
        chosen = _plan_from(app, epochs[number:], until, point)
        if chosen is not None:
            return _with_newer_histories(app, chosen, epochs[:number])
    when = utc(target) if target else "now"
    what = f"no base backup leads to {when}"
    raise HostError(what, "the backup on S3", "deploy backup list shows what can be restored", USAGE)


def _plan_from(app: App, epochs: Sequence[Epoch], until: float | None, point: Point | None) -> Plan | None:
    """A plan for the first epoch, with a base backup of the first epoch that has a usable one; None without one."""
    store, backup = backup_epochs.bucket(app), settings.backup(app)
    line = timelines.read_stored(store, epochs[0].epoch)
    span = timelines.span_at(line.spans, until)
    if span is None:
        return None
    timeline, lsn = (point.timeline, timelines.parse_lsn(point.lsn)) if point else (span.timeline, None)
    joined, sources = line, [epochs[0].epoch]
    for epoch in epochs:
        if epoch is not epochs[0]:
            older = timelines.read_stored(store, epoch.epoch)
            if older.system not in ("", line.system):
                continue  # no WAL connects two systems, but an even older epoch may be of the same system
            joined = _join(older, joined)
            sources.append(epoch.epoch)
        path = timelines.ancestry(joined.spans, timeline)
        base = timelines.choose_base(bases(app, epoch.epoch), path, until, lsn)
        if base is None:
            continue
        if (gap := timelines.gap_before(joined.gaps, base, until)) is not None:
            raise _gap_error(gap)
        return Plan(
            epochs[0],
            base,
            repository_path(backup, epoch.epoch),
            timeline,
            until,
            tuple(sources),
            joined.histories,
            line.system,
        )
    return None


def _with_newer_histories(app: App, chosen: Plan, newer: Sequence[Epoch]) -> Plan:
    """The plan with the history files of newer epochs of the same system, so that no timeline number is reused."""
    store, histories = backup_epochs.bucket(app), dict(chosen.histories)
    for epoch in newer:
        line = timelines.read_stored(store, epoch.epoch)
        if line.system == chosen.system:
            histories = {**line.histories, **histories}
    return chosen._replace(histories=histories)


def _join(older: Line, newer: Line) -> Line:
    """The records of two epochs as one; the second continues the first."""
    histories = {**older.histories, **newer.histories}
    return Line((*older.spans, *newer.spans), (*older.gaps, *newer.gaps), histories, newer.system)


def _gap_error(gap: timelines.Gap) -> HostError:
    end = f" to {utc(gap.until)}" if gap.until else ", and no base backup was taken since"
    what = f"the WAL of that time was dropped: there is a gap from {utc(gap.since)}{end}"
    return HostError(what, "the backup on S3", "deploy backup list shows what can be restored", USAGE)


def _recovery_settings(app: App, into: Path, chosen: Plan, point: Point | None) -> dict[str, str]:
    """The settings for the recovery. They hold no secret."""
    values = {
        "restore_command": restore_command(list(_archive_commands(app, into, chosen.sources))),
        "recovery_target_timeline": str(chosen.timeline),
        "recovery_target_action": "promote",
        # no sessions during recovery, so the limits may be lower than on the host of the backup
        "hot_standby": "off",
    }
    if point is not None:
        return values | {"recovery_target_name": point.name}
    if chosen.until is not None:
        return values | {"recovery_target_time": timelines.format_instant(chosen.until)}
    return values


def restore_command(commands: Sequence[str]) -> str:
    """A shell command that tries each command until one has the WAL file. A command exits with 1 if it lacks the file.

    Any other error must not look like the end of the WAL: with a status above 125, PostgreSQL aborts recovery.
    """
    script = "s=1; " + "".join(f"[ $s -ne 1 ] || {{ {command}; s=$?; }}; " for command in commands)
    return script + "[ $s -le 1 ] || exit 255; exit $s"


def _archive_commands(app: App, into: Path, sources: Sequence[str]) -> Iterator[str]:
    """A command for each epoch with an archive, newest first."""
    backup, store = settings.backup(app), backup_epochs.bucket(app)
    for epoch in sources:
        if store.get(f"{repository_path(backup, epoch)[1:]}/archive/{app.name}/archive.info") is None:
            continue
        options = (
            f"--repo1-path={repository_path(backup, epoch)}",
            f"--pg1-path={into}",
            "--no-archive-async",
            "--log-level-file=off",
        )
        yield " ".join([*command_line(app, "archive-get", *options), "%f", '"%p"'])
