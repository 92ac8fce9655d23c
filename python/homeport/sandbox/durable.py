"""Writes files atomically, and takes locks that end with their process."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

LOCKS = Path("/run/homeport-sandbox")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file by fsync and rename: it is never incomplete, and never has a wider mode."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(path)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace a JSON file by fsync and rename."""
    write(path, json.dumps(document, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file is missing, or incomplete after a crash of the machine."""
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return document if isinstance(document, dict) else None


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock of this name during the block; waits until no other process of this machine holds it."""
    with _open_locked(LOCKS / f"{name}.lock"):
        yield


def _open_locked(path: Path) -> TextIO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            stream = path.open("w")
        except FileNotFoundError:
            continue
        fcntl.flock(stream, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_ino == os.fstat(stream.fileno()).st_ino:
            return stream
        stream.close()  # the file was removed meanwhile (forget_locks): lock the new one


def forget_locks() -> None:
    """Remove the locks that no process holds."""
    for path in LOCKS.glob("*.lock"):
        with path.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink()
    with suppress(OSError):  # not empty: a lock is held
        LOCKS.rmdir()
