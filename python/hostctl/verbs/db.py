"""`hostctl APP db ACTION`: a console on the live database, a dump of it, and the replacement of it by a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hostctl import engines
from hostctl.common.errors import LOCKED, HostError
from hostctl.common.files import file_digest, make_directory, remove_tree, unlink
from hostctl.common.names import transition_id
from hostctl.core import audit, lock
from hostctl.core.paths import App
from hostctl.engines import Consoles
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.transitions import begin

CHUNK = 1 << 20
LEFT = 86_400  # seconds after which a received file is a leftover


def of(app: App) -> Consoles:
    """The consoles of the app's engine. Raises HostError (usage) without a database."""
    return engines.require(app).consoles


# ---------------------------------------------------------------------------------------------- console


def console(app: App, name: str | None, write: bool, who: str, origin: str) -> int:
    """Open a console on the live database as the app's own user. Returns the exit code.

    A person reads the output: an error is printed as text on standard error.
    """
    try:
        database = of(app).database_name(app, name)
        if write:
            audit.note(app, who, origin, "db console", f"writing to {database}")
        return of(app).open_console(app, database, write)
    except HostError as error:
        print(f"error: {error.what}\n  where: {error.where}\n  fix: {error.fix}", file=sys.stderr)
        return error.code


# ---------------------------------------------------------------------------------------------- dump


def dump(app: App, name: str | None, sql: bool, out: BinaryIO) -> None:
    """Write a consistent copy to `out`: a line of JSON with its `bytes` and `sha256`, then that many bytes.

    The copy is in the engine's own format, or SQL text. Raises HostError, also while another dump is made (locked).
    """
    database = of(app).database_name(app, name)
    with _exclusive_directory(app, "dump") as scratch:
        _send(of(app).copy(app, database, sql, scratch), out)


@contextlib.contextmanager
def _exclusive_directory(app: App, what: str) -> Iterator[Path]:
    """An empty directory that only root can read, removed at the end of the block. Raises HostError (locked)."""
    scratch = app.state / what
    busy = HostError(f"another {what} is under way", str(scratch), "try again in a moment", LOCKED)
    with lock.hold(app.state / f"{what}.lock", busy):
        remove_tree(scratch)
        make_directory(scratch, 0o700)
        try:
            yield scratch
        finally:
            remove_tree(scratch)


def _send(path: Path, out: BinaryIO) -> None:
    with path.open("rb") as file:
        out.write(json.dumps({"bytes": path.stat().st_size, "sha256": file_digest(path)}).encode() + b"\n")
        shutil.copyfileobj(file, out, CHUNK)
    out.flush()


# ---------------------------------------------------------------------------------------------- load


def _receive(app: App, target: Path, size: int, digest: str, source: BinaryIO) -> Path:
    """Write a database from `source` to the disk and check it. Raises HostError."""
    disk.require_space(target.parent, 2 * size + disk.SPARE, "the file")
    if _write(target, size, source) != digest:
        raise HostError("the received file is incomplete", str(target), "deploy db load again")
    of(app).check_file(app, target)
    return target


def _write(target: Path, size: int, source: BinaryIO) -> str:
    """Write at most `size` bytes of `source` to the disk. Returns their SHA-256."""
    checksum, remaining = hashlib.sha256(), size
    with target.open("xb") as file:
        target.chmod(0o600)
        while remaining and (data := source.read(min(CHUNK, remaining))):
            file.write(data)
            checksum.update(data)
            remaining -= len(data)
        file.flush()
        os.fsync(file.fileno())
    return checksum.hexdigest()


def load(app: App, size: int, digest: str, who: str, origin: str, host: Host) -> begin.Begun:
    """Begin to replace the live database by the file on standard input. Returns the transition. Raises HostError."""
    with _exclusive_directory(app, "load") as scratch:
        file = _receive(app, scratch / "load.db", size, digest, sys.stdin.buffer)
        _remove_old_files(app)
        # the transition moves it away after this process has ended
        path = file.replace(app.state / f"load-{transition_id()}.db")
    try:
        return begin.load(app, path, who, origin, host)
    except BaseException:
        unlink(path)
        raise


def _remove_old_files(app: App) -> None:
    """Remove received files that no transition used."""
    for path in app.state.glob("load-*.db"):
        if path.stat().st_mtime < time.time() - LEFT:
            unlink(path)
