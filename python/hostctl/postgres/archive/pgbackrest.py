"""pgBackRest: how it is configured, asked, and made to restore. Every epoch has a repository of its own.

The one configuration file names the epoch that this host archives into; another one is asked by `--repo1-path`.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hostctl.backup import epochs as backup_epochs
from hostctl.backup import settings
from hostctl.backup.epochs import Epoch
from hostctl.backup.settings import Backup, Credentials
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, write_atomic
from hostctl.common.timestamps import utc
from hostctl.core.paths import App
from hostctl.postgres.archive import timelines, wal_stream
from hostctl.postgres.archive.timelines import Base, Line
from hostctl.postgres.server import cluster

PROGRAM = "pgbackrest"
QUICK = 120.0  # seconds for what moves no data
WHOLE = 24 * 3600.0  # seconds for what does
# of every session of its own, whatever the app wants for others
UNHINDERED = "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 -c default_transaction_read_only=off"
PROCESSES = 4  # at most, for one command
PUSH = 10  # seconds that the server's archiver waits for one segment before it asks again
SILENCE = 30  # seconds that the store may take for an answer
TAKEN = 8192  # bytes of a log that are looked into
ARCHIVE = 60  # seconds that a backup waits for its WAL to be archived


class Point(NamedTuple):
    """A restore point: its name in the WAL, when it was made, and where. `lsn` as PostgreSQL writes it."""

    name: str
    at: float
    epoch: str
    timeline: int
    lsn: str


class Restored(NamedTuple):
    """A data directory that only has to be started with `settings`, by which it recovers to what was asked for."""

    epoch: Epoch
    label: str
    timeline: int
    settings: Mapping[str, str]
    tail: int
    seconds: float


class Plan(NamedTuple):
    """What a restore uses: the base backup of one epoch, and the WAL of `sources`, newest epoch first."""

    epoch: Epoch
    base: Base
    home: str
    timeline: int
    until: float | None
    sources: tuple[str, ...]
    histories: Mapping[int, str]
    system: str


# ---------------------------------------------------------------------------------------------- configuration


def render(app: App, backup: Backup, keys: Credentials, epoch: str) -> str:
    """The configuration file. It holds the keys."""
    server = cluster.live_server(app)
    told = _repository(backup, keys, epoch) | _habits(app)
    lines = [f"{name}={value}" for name, value in told.items()]
    # a server that stops waits for its archiver, which waits for S3: what is not archived then, is at the next start
    lines += ["", "[global:archive-push]", f"archive-timeout={PUSH}"]
    lines += ["", f"[{app.name}]", f"pg1-path={server.data}", f"pg1-socket-path={server.socket}"]
    return "\n".join(["[global]", *lines, f"pg1-user={cluster.SUPERUSER}", "pg1-port=5432", ""])


def _repository(backup: Backup, keys: Credentials, epoch: str) -> dict[str, object]:
    suffix = "amazonaws.com.cn" if backup.region.startswith("cn-") else "amazonaws.com"
    parts = urllib.parse.urlsplit(backup.endpoint or f"https://s3.{backup.region}.{suffix}")
    told: dict[str, object] = {
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
    told |= {"repo1-storage-ca-file": backup.ca} if backup.ca else {}
    if backup.encrypted:
        told |= {"repo1-cipher-type": "aes-256-cbc", "repo1-cipher-pass": keys.encryption_key}
    return told


def _habits(app: App) -> dict[str, object]:
    return {
        "archive-async": "y",
        "expire-auto": "n",
        "archive-timeout": ARCHIVE,
        "io-timeout": SILENCE,
        "spool-path": app.cluster / "spool",
        "lock-path": app.cluster / "lock",
        "process-max": max(1, min(PROCESSES, (os.cpu_count() or 1) // 2)),
        "compress-type": "zst",
        "start-fast": "y",
        # what archives in the background tells why it fails in a file alone
        "log-path": log_file(app).parent,
        "log-level-file": "warn",
        "log-level-console": "off",
        "log-level-stderr": "warn",
    }


def log_file(app: App) -> Path:
    """Where the archiver says what goes wrong."""
    return app.cluster / "log" / f"{app.name}-archive-push-async.log"


def last_error(app: App) -> str | None:
    """What the archiver complained of last; None when it did not."""
    try:
        with log_file(app).open("rb") as file:
            file.seek(max(0, log_file(app).stat().st_size - TAKEN))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if "ERROR:" in line]
    except OSError:
        return None
    return _clean(app, error_text(lines[-1])) if lines else None


def repository_path(backup: Backup, epoch: str) -> str:
    """Where an epoch's repository is in the bucket."""
    return f"/{backup.prefix}/{epoch}/pg"


def configure(app: App, epoch: str) -> bool:
    """Write the configuration for archiving into an epoch; returns whether anything changed. Raises HostError."""
    backup, keys = settings.backup(app), settings.credentials(app)
    if backup.encrypted and not keys.encryption_key:
        what = "the backup's encryption key was never sent here"
        fix = "export the secret that backup.encryption_key names, and run deploy provision"
        raise HostError(what, str(app.backup_credentials), fix, USAGE)
    for name in ("spool", "lock", "log"):
        make_directory(app.cluster / name, 0o700)
        _give(app.cluster / name)
    text = render(app, backup, keys, epoch).encode()
    if app.pgbackrest.exists() and app.pgbackrest.read_bytes() == text:
        return False
    part = app.pgbackrest.with_name(".pgbackrest.conf.made")
    write_atomic(part, text, 0o600)
    _give(part, "root", 0o640)
    part.replace(app.pgbackrest)
    return True


def _give(path: Path, owner: str = cluster.SUPERUSER, mode: int | None = None) -> None:
    """To the user postgres, or to its group; as whoever else than root there is nobody to give it to."""
    if os.geteuid() == 0:
        shutil.chown(path, owner, cluster.SUPERUSER)
    if mode is not None:
        path.chmod(mode)


# ---------------------------------------------------------------------------------------------- commands


def command_line(app: App, command: str, *options: str) -> list[str]:
    """A call of pgBackRest. No option is a secret."""
    return [PROGRAM, f"--config={app.pgbackrest}", f"--stanza={app.name}", *options, command]


def run(app: App, command: str, *options: str, timeout: float = QUICK) -> str:
    """Run it as the user postgres; returns what it printed. Raises HostError with its words."""
    failed = f"pgBackRest: {command} failed"
    try:
        done = cluster.run_as_postgres(
            command_line(app, command, *options), timeout=timeout, env={"PGOPTIONS": UNHINDERED}
        )
    except FileNotFoundError:
        raise HostError(f"{failed}: it is not installed", PROGRAM, "deploy provision") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"{failed}: it took longer than {timeout:g} s", "the backup on S3", _MEND) from None
    if done.returncode != 0:
        raise HostError(f"{failed}: {_clean(app, error_text(done.stderr + done.stdout))}", "the backup on S3", _MEND)
    return done.stdout


_MEND = "deploy backup check tells whether S3 answers as it should"


def error_text(printed: str) -> str:
    """Why pgBackRest failed, in its own words: its errors without times and processes, else its last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [re.sub(r"^.*?ERROR: *(\[\d+\]: *)?", "", line) for line in lines if "ERROR:" in line]
    return "; ".join(errors[:2] or lines[-1:] or ["it does not say why"])[:500]


def _clean(app: App, text: str) -> str:
    for key in settings.credentials(app):
        text = text.replace(key, "...") if key else text
    return text


def create_repository(app: App) -> None:
    """Prepare the epoch's repository for the cluster; one that is prepared stays as it is. Raises HostError."""
    run(app, "stanza-create", "--no-online")


def backup(app: App, kind: str) -> None:
    """Take a base backup, "full" or "incr". Raises HostError."""
    run(app, "backup", f"--type={kind}", timeout=WHOLE)


def restorable_range(app: App) -> tuple[float, float]:
    """The oldest and the newest instant that can be restored, in seconds since the epoch. Raises HostError."""
    epochs = backup_epochs.chain(backup_epochs.bucket(app))
    ends = [found[0].ended for epoch in epochs if (found := bases(app, epoch.epoch))]
    if not ends:
        raise HostError("there is no base backup that could be restored", "the backup on S3", "deploy backup status")
    return min(ends), newest_instant(app)


def newest_instant(app: App) -> float:
    """The newest instant that is on S3: what the tail says, else when it last said something."""
    told = read_json(app.backup / "tail.json") or {}
    late = wal_stream.lag(app)
    return time.time() - late if late is not None else float(told.get("behind_since") or told.get("at") or time.time())


def expire(app: App) -> None:
    """Remove what the retention has passed: only once a drill has proven what is newer. Raises HostError."""
    run(app, "expire", timeout=WHOLE)


def check(app: App) -> None:
    """Have the running server archive a segment, and see it arrive. Raises HostError."""
    run(app, "check", f"--archive-timeout={ARCHIVE}", timeout=2 * QUICK)


def bases(app: App, epoch: str) -> list[Base]:
    """The base backups of an epoch, oldest first. Raises HostError."""
    path = repository_path(settings.backup(app), epoch)
    return parse_info(run(app, "info", "--output=json", f"--repo1-path={path}"))


def parse_info(text: str) -> list[Base]:
    """What `info` says in JSON, but for backups that came with errors. Raises HostError for anything else."""
    try:
        stanzas: list[Json] = json.loads(text)
        return [_base(one) for stanza in stanzas for one in stanza.get("backup", []) if not one.get("error")]
    except (ValueError, KeyError, TypeError) as error:
        what = f"pgBackRest's info cannot be understood: {type(error).__name__}: {error}"
        raise HostError(what, "the backup on S3", "report it with the version of pgBackRest") from None


def _base(told: Json) -> Base:
    start, stop = (timelines.parse_lsn(told["lsn"][name]) for name in ("start", "stop"))
    times, sizes = told["timestamp"], told["info"]
    timeline = int(told["archive"]["start"][:8], 16)
    stored = int(sizes["repository"].get("delta", 0))
    begun, ended = float(times["start"]), float(times["stop"])
    return Base(told["label"], told["type"], begun, ended, timeline, start, stop, int(sizes["size"]), stored)


# ---------------------------------------------------------------------------------------------- restore


def restore(app: App, into: Path, at: float | None = None, point: Point | None = None) -> Restored:
    """Bring a base backup, and the end of the WAL, into a new directory of the user postgres.

    `at`: the instant that it will recover to; `point`: the restore point; neither: the newest. Raises HostError.
    """
    begun = time.monotonic()
    store = backup_epochs.bucket(app)
    found = plan(app, backup_epochs.chain(store), at, point)
    cluster.make_postgres_directory(into)
    options = [f"--set={found.base.label}", f"--repo1-path={found.home}", f"--pg1-path={into}"]
    run(app, "restore", *options, "--type=none", timeout=WHOLE)
    laid = 0
    for epoch in reversed(found.sources):
        laid += wal_stream.restore_segments(app, store, epoch, into)
    for number, text in found.histories.items():
        _owned(into / "pg_wal" / f"{number:08X}.history", text.encode())
    _owned(into / "recovery.signal", b"")
    settings = _settings(app, into, found, point)
    return Restored(found.epoch, found.base.label, found.timeline, settings, laid, time.monotonic() - begun)


def _owned(path: Path, data: bytes) -> None:
    write_atomic(path, data)
    _give(path)


def plan(app: App, epochs: Sequence[Epoch], at: float | None, point: Point | None) -> Plan:
    """What to restore from. Raises HostError (usage) when no base backup leads to what is wanted."""
    wanted = point.at if point else at
    reachable = [one for one in epochs if point is None or one.epoch == point.epoch]
    for epoch, until in backup_epochs.candidates(reachable, wanted):
        number = epochs.index(epoch)
        found = _planned(app, epochs[number:], until, point)
        if found is not None:
            return _numbered(app, found, epochs[:number])
    when = utc(wanted) if wanted else "now"
    what = f"no base backup leads to {when}"
    raise HostError(what, "the backup on S3", "deploy backup list tells what can be restored", USAGE)


def _planned(app: App, epochs: Sequence[Epoch], until: float | None, point: Point | None) -> Plan | None:
    """From the first of these epochs, with the base backup of the first of them that has one. None without."""
    store, known = backup_epochs.bucket(app), settings.backup(app)
    line = timelines.read_stored(store, epochs[0].epoch)
    span = timelines.span_at(line.spans, until)
    if span is None:
        return None
    timeline, lsn = (point.timeline, timelines.parse_lsn(point.lsn)) if point else (span.timeline, None)
    told, sources = line, [epochs[0].epoch]
    for epoch in epochs:
        if epoch is not epochs[0]:
            older = timelines.read_stored(store, epoch.epoch)
            if older.system not in ("", line.system):
                continue  # no log leads from one system to another, but one that was gone back to may be older still
            told = _joined(older, told)
            sources.append(epoch.epoch)
        way = timelines.ancestry(told.spans, timeline)
        base = timelines.choose_base(bases(app, epoch.epoch), way, until, lsn)
        if base is None:
            continue
        if (gap := timelines.gap_before(told.gaps, base, until)) is not None:
            raise _dropped(gap)
        return Plan(
            epochs[0],
            base,
            repository_path(known, epoch.epoch),
            timeline,
            until,
            tuple(sources),
            told.histories,
            line.system,
        )
    return None


def _numbered(app: App, found: Plan, newer: Sequence[Epoch]) -> Plan:
    """The plan with what newer epochs know of timelines of the same system: none of their numbers is taken again."""
    store, histories = backup_epochs.bucket(app), dict(found.histories)
    for epoch in newer:
        line = timelines.read_stored(store, epoch.epoch)
        if line.system == found.system:
            histories = {**line.histories, **histories}
    return found._replace(histories=histories)


def _joined(older: Line, newer: Line) -> Line:
    """One line of two epochs, of which the second goes on from the first."""
    histories = {**older.histories, **newer.histories}
    return Line((*older.spans, *newer.spans), (*older.gaps, *newer.gaps), histories, newer.system)


def _dropped(gap: timelines.Gap) -> HostError:
    healed = f" to {utc(gap.until)}" if gap.until else ", and no base backup was taken since"
    what = f"the log of that time was dropped: there is a gap from {utc(gap.since)}{healed}"
    return HostError(what, "the backup on S3", "deploy backup list tells what can be restored", USAGE)


def _settings(app: App, into: Path, found: Plan, point: Point | None) -> dict[str, str]:
    """What the server is started with: no secret is in it."""
    told = {
        "restore_command": restore_command(list(_fetches(app, into, found.sources))),
        "recovery_target_timeline": str(found.timeline),
        "recovery_target_action": "promote",
        # nobody asks it before it has recovered, and so it needs no more room than this host gives
        "hot_standby": "off",
    }
    if point is not None:
        return told | {"recovery_target_name": point.name}
    if found.until is not None:
        return told | {"recovery_target_time": timelines.format_instant(found.until)}
    return told


def restore_command(commands: Sequence[str]) -> str:
    """Ask for a file of WAL in one place after the other, each of which says 1 when it has none.

    Whatever else goes wrong must not pass for the end of the WAL: above 125, PostgreSQL gives up its recovery.
    """
    asked = "s=1; " + "".join(f"[ $s -ne 1 ] || {{ {command}; s=$?; }}; " for command in commands)
    return asked + "[ $s -le 1 ] || exit 255; exit $s"


def _fetches(app: App, into: Path, sources: Sequence[str]) -> Iterator[str]:
    """A command for each epoch that may have the WAL, newest first; not for one that came to no archive."""
    backup, store = settings.backup(app), backup_epochs.bucket(app)
    for epoch in sources:
        if store.get(f"{repository_path(backup, epoch)[1:]}/archive/{app.name}/archive.info") is None:
            continue
        options = (f"--repo1-path={repository_path(backup, epoch)}", f"--pg1-path={into}", "--no-archive-async")
        yield " ".join([*command_line(app, "archive-get", *options), "%f", '"%p"'])


def without_target(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a recovery to the end of the WAL: nothing was written after the instant that was wanted."""
    return {name: value for name, value in settings.items() if name not in _TARGETS}


_TARGETS = ("recovery_target_time", "recovery_target_name", "recovery_target_lsn")
