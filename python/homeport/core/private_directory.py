"""A temporary directory that only this user may read, in memory if possible, removed after use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# the beginning of the directory's name; the number of its process follows
PREFIX = "homeport-run-"


@contextmanager
def directory() -> Iterator[Path]:
    """A new directory; its files are overwritten and removed at the end. Also removes those that killed runs left."""
    _clear_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=_base()) as made:
        try:
            yield Path(made)
        finally:
            _overwrite(Path(made))


def write(path: Path, text: str) -> None:
    """Write a new file that only this user may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
        out.write(text)


def _base() -> str:
    """A directory in memory if there is one, because files there never reach a disk; else the temporary directory."""
    memory = "/dev/shm"  # noqa: S108 - the directory made in it is ours alone
    return memory if os.access(memory, os.W_OK) else tempfile.gettempdir()


def _overwrite(directory: Path) -> None:
    """Overwrite every file with zeros, because a removed file's blocks stay on a disk."""
    for path in directory.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                with path.open("r+b") as file:
                    file.write(bytes(path.stat().st_size))


def _clear_leftovers() -> None:
    for path in Path(_base()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.stat().st_uid == os.getuid() and not _is_running(path.name.removeprefix(PREFIX).partition("-")[0]):
                _overwrite(path)
                shutil.rmtree(path)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    return True
