"""A directory that only this user may read, in memory where there is such a place, gone with what it was made for."""

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
    """A new one. Whatever is in it at the end is overwritten and removed, and so is what killed runs have left."""
    _clear_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=_base()) as made:
        try:
            yield Path(made)
        finally:
            _overwrite(Path(made))


def write(path: Path, text: str) -> None:
    """A new file that only this user may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
        out.write(text)


def _base() -> str:
    """Memory rather than disk, where there is such a directory: what lies there is never written out."""
    memory = "/dev/shm"  # noqa: S108 - the directory made in it is ours alone
    return memory if os.access(memory, os.W_OK) else tempfile.gettempdir()


def _overwrite(directory: Path) -> None:
    """Zeros in place of every file's bytes: where the directory is on a disk, its blocks outlive it."""
    for path in directory.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                with path.open("r+b") as file:
                    file.write(bytes(path.stat().st_size))


def _clear_leftovers() -> None:
    for path in Path(_base()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.stat().st_uid == os.getuid() and not _runs(path.name.removeprefix(PREFIX).partition("-")[0]):
                _overwrite(path)
                shutil.rmtree(path)


def _runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    return True
