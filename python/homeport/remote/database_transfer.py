"""Copies databases between the host and this machine, verified by digest; a file gets its name only when complete."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, BinaryIO

from homeport.core.errors import ExitCode, HomeportError
from homeport.core.humanize import size
from homeport.remote import hostctl
from homeport.remote.session import Session
from homeport.screen.screen import Screen
from homeport.ssh import connection
from hostctl.common.documents import Json
from hostctl.common.files import file_digest

CHUNK = 1 << 20
LONGEST_HEADER = 4096
MAGIC = b"SQLite format 3\0"
ARCHIVE = b"PGDMP"  # PostgreSQL: pg_backup_archiver.c


# ---------------------------------------------------------------------------------------------- from the host


def fetch(
    session: Session, words: list[str], target: Path, screen: Screen, *, force: bool, verb: str = "db dump"
) -> int:
    """Run a verb of hostctl that sends a file (see hostctl.verbs.db.dump) and keep it as `target`; returns its bytes.

    Overwrites only with `force`. `verb` is the verb that the user called. Raises HomeportError, and removes the partial
    file then.
    """
    step = verb.split()[-1]
    if target.exists() and not force:
        raise _exists_error(target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    screen.begin(step, "the host makes a consistent copy")
    try:
        received = _receive(session, words, part, screen, verb)
        _publish(part, target, force=force)
    except BaseException:
        screen.end(step, ok=False)
        raise
    finally:
        part.unlink(missing_ok=True)
    screen.end(step, size(received))
    return received


def _receive(session: Session, words: list[str], part: Path, screen: Screen, verb: str) -> int:
    argv = connection.command(session.target, session.hostctl.command(*words))
    with tempfile.TemporaryFile() as stderr, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stderr) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        head = process.stdout.readline(LONGEST_HEADER)
        header = _header(head)
        try:
            digest = _write_part(process.stdout, part, header["bytes"], screen) if header else ""
        finally:
            process.stdout.close()
            status = process.wait()
        stderr.seek(0)
        if header is None:
            raise _refusal(session, status, head, stderr.read())
    if status != 0 or digest != header["sha256"]:
        what = "the copy did not arrive complete; it was deleted"
        raise HomeportError(what, str(session.target), f"run deploy {verb} again")
    return int(header["bytes"])


def _header(line: bytes) -> Json | None:
    """The header that the host sends before the file; None if the line is not one."""
    try:
        header = json.loads(line)
    except ValueError:
        return None
    return header if isinstance(header, dict) and "sha256" in header else None


def _refusal(session: Session, status: int, out: bytes, err: bytes) -> HomeportError:
    if status == connection.CONNECTION_FAILED:
        return connection.failure(str(session.target), err.decode(errors="replace"))
    try:
        hostctl.parse(status, out, err, str(session.target))
    except HomeportError as error:
        return error
    return HomeportError("the host sent no database", str(session.target), "deploy provision", ExitCode.PERSON)


def _write_part(source: IO[bytes], part: Path, total: int, screen: Screen) -> str:
    """Write at most `total` bytes of the source to `part`, synced to disk; returns their SHA-256."""
    digest, done = hashlib.sha256(), 0
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        while done < total and (data := source.read(min(CHUNK, total - done))):
            file.write(data)
            digest.update(data)
            done += len(data)
            screen.note(f"{size(done)} of {size(total)}")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _publish(part: Path, target: Path, *, force: bool) -> None:
    """Give the file its name, synced to disk. Without `force` by a link, which fails where a rename would overwrite."""
    if force:
        part.replace(target)
    else:
        try:
            os.link(part, target)
        except FileExistsError:
            raise _exists_error(target) from None
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _exists_error(target: Path) -> HomeportError:
    return HomeportError(f"{target} exists already", str(target), "use another FILE, or --force", ExitCode.USAGE)


# ---------------------------------------------------------------------------------------------- to the host


def check(file: Path, engine: str) -> None:
    """Check that a file can replace the app's database. Raises HomeportError (usage) if not."""
    if engine == "external":
        what, fix = "an external database cannot be replaced by Homeport", "use pg_restore with the server's URL"
        raise HomeportError(what, "database.engine: external", fix, ExitCode.USAGE)
    if engine == "postgres":
        _check_magic(file, ARCHIVE, "PostgreSQL dump", "pg_dump --format=custom")
    else:
        _check_magic(file, MAGIC, "SQLite database", "sqlite3's .backup")
        _check_log(file)


def _check_magic(file: Path, magic: bytes, kind: str, other: str) -> None:
    """Raises HomeportError (usage) unless the file begins with the bytes of its kind."""
    with file.open("rb") as opened:
        if opened.read(len(magic)) == magic:
            return
    fix = f"use a file written by deploy db dump or {other}"
    raise HomeportError(f"the file is not a {kind}", str(file), fix, ExitCode.USAGE)


def _check_log(file: Path) -> None:
    """Raises HomeportError (usage) if a part of the SQLite database is in its write-ahead log, which is not sent."""
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size:
        what = f"a part of the database is still in {log.name}, which would not be sent"
        raise HomeportError(what, str(file), f"sqlite3 {file} 'PRAGMA wal_checkpoint(TRUNCATE)'", ExitCode.USAGE)


def send(session: Session, file: Path, words: list[str], screen: Screen) -> Json:
    """Run a verb of hostctl that reads a file from standard input; returns its answer. Raises HomeportError."""
    with file.open("rb") as opened:
        described = ["--bytes", str(file.stat().st_size), "--digest", file_digest(file)]
        argv = connection.command(session.target, session.hostctl.command(*words, *described))
        screen.begin("send", size(file.stat().st_size))
        done = _run(argv, opened)
    screen.end("send", size(file.stat().st_size), ok=done.returncode == 0)
    if done.returncode == connection.CONNECTION_FAILED:
        raise connection.failure(str(session.target), done.stderr.decode(errors="replace"))
    return hostctl.parse(done.returncode, done.stdout, done.stderr, str(session.target))


def _run(argv: list[str], opened: BinaryIO) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, stdin=opened, capture_output=True, check=False)
