"""Moves and copies files and trees durably, also between file systems."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from hostctl.common import files


def move(source: Path, target: Path) -> None:
    """Move a file or tree durably, also to another file system. A source that does not exist is no error."""
    if not os.path.lexists(source):
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if target.is_dir():
        # an earlier move between file systems was interrupted after its copy: both ends have the whole tree
        files.remove_tree(target)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_and_remove(source, target)
    files.sync_directory(target.parent)
    files.sync_directory(source.parent)


def _copy_and_remove(source: Path, target: Path) -> None:
    """Copy, and then remove the source. No symlink is followed: the app's user owns the directory."""
    part = target.with_name(f".{target.name}.part")
    if source.is_dir() and not source.is_symlink():
        files.remove_tree(part)
        shutil.copytree(source, part, symlinks=True, copy_function=copy)
        _sync_tree(part)
        part.rename(target)
        files.remove_tree(source)
    else:
        part.unlink(missing_ok=True)
        copy(source, part)
        part.rename(target)
        source.unlink()


def copy(source: str | Path, target: str | Path) -> None:
    """Make a new file with the content, owner and mode of another, and sync it."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        found = os.fstat(reading)
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            _copy_bytes(reading, writing, found.st_size)
            os.fchown(writing, found.st_uid, found.st_gid)
            os.fchmod(writing, found.st_mode & 0o777)
            os.fsync(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_bytes(reading: int, writing: int, size: int) -> None:
    """Copy all bytes. The kernel shares blocks where the file system can (btrfs, XFS)."""
    with suppress(OSError):
        while size and (done := os.copy_file_range(reading, writing, size)):
            size -= done
    # the kernel may stop early: copy the rest from where both files stand
    with open(reading, "rb", closefd=False) as source, open(writing, "wb", closefd=False) as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _sync_tree(directory: Path) -> None:
    for root, _, _ in os.walk(directory):
        files.sync_directory(Path(root))
