"""`hostctl APP db ACTION`: a console on the live database, a copy of it to take away, and another one in its place."""

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
from hostctl.core import audit
from hostctl.core.lock import Flock
from hostctl.core.paths import App
from hostctl.engines import Consoles
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.transitions import begin

CHUNK = 1 << 20
LEFT = 86_400  # seconds after which nobody comes for a file that was sent


def of(app: App) -> Consoles:
    """How the app's engine does it. Raises HostError (usage) without a database."""
    return engines.require(app).consoles


# ---------------------------------------------------------------------------------------------- console


def console(app: App, name: str | None, write: bool, who: str, origin: str) -> int:
    """A console on the live database, as the app's own user: whatever is typed reaches no further than the app does.

    A person reads what is printed, so an error is lines on standard error. Returns the exit code.
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
    """Send a consistent copy: a line of JSON with its `bytes` and `sha256`, and then that many bytes.

    In the engine's own form, or as SQL text. Raises HostError, also when another one is being made (locked).
    """
    database = of(app).database_name(app, name)
    with _alone(app, "dump") as scratch:
        _send(of(app).copy(app, database, sql, scratch), out)


@contextlib.contextmanager
def _alone(app: App, what: str) -> Iterator[Path]:
    """An empty directory of root's own, gone afterwards. Raises HostError (locked) while another has it."""
    scratch = app.state / what
    try:
        with Flock(app.state / f"{what}.lock"):
            remove_tree(scratch)
            make_directory(scratch, 0o700)
            try:
                yield scratch
            finally:
                remove_tree(scratch)
    except BlockingIOError:
        raise HostError(f"another {what} is under way", str(scratch), "try again in a moment", LOCKED) from None


def _send(path: Path, out: BinaryIO) -> None:
    with path.open("rb") as file:
        out.write(json.dumps({"bytes": path.stat().st_size, "sha256": file_digest(path)}).encode() + b"\n")
        shutil.copyfileobj(file, out, CHUNK)
    out.flush()


# ---------------------------------------------------------------------------------------------- load


def _received(app: App, target: Path, size: int, digest: str, source: BinaryIO) -> Path:
    """Take in a database that is to replace the live one, and make sure that it is a sound one. Raises HostError."""
    disk.require_room(target.parent, 2 * size, "the file")
    if _written(target, size, source) != digest:
        raise HostError("the file did not arrive whole", str(target), "deploy db load again")
    of(app).check_file(app, target)
    return target


def _written(target: Path, size: int, source: BinaryIO) -> str:
    """Write what comes, at most `size` bytes, to the disk; returns the SHA-256 of it."""
    found, left = hashlib.sha256(), size
    with target.open("xb") as file:
        target.chmod(0o600)
        while left and (data := source.read(min(CHUNK, left))):
            file.write(data)
            found.update(data)
            left -= len(data)
        file.flush()
        os.fsync(file.fileno())
    return found.hexdigest()


def load(app: App, size: int, digest: str, who: str, origin: str, host: Host) -> begin.Begun:
    """Replace the live database by the file that comes on standard input, as a restore does. Raises HostError."""

    with _alone(app, "load") as scratch:
        received = _received(app, scratch / "load.db", size, digest, sys.stdin.buffer)
        _forget_loads(app)
        # the transition takes it away, after this has answered
        path = received.replace(app.state / f"load-{transition_id()}.db")
    try:
        return begin.load(app, path, who, origin, host)
    except BaseException:
        unlink(path)
        raise


def _forget_loads(app: App) -> None:
    """What transitions that came to nothing left here."""
    for path in app.state.glob("load-*.db"):
        if path.stat().st_mtime < time.time() - LEFT:
            unlink(path)
