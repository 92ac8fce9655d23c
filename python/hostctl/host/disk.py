"""Space on the host's disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hostctl.common.documents import Space
from hostctl.common.errors import HostError

BLOCK = 512  # bytes of a block, stat(2)
SPARE = 256 << 20  # bytes that a caller leaves free beside a copy
FREE_SOME = "free some space on the host (df -h), and try again"


def require_space(directory: Path, need: int, purpose: str, fix: str = FREE_SOME) -> None:
    """Raises HostError unless `need` bytes are free in a directory. `purpose`: what needs them, such as "a copy"."""
    free = space(directory)["free"]
    if free < need:
        what = f"the disk is full: {purpose} needs {need >> 20} MB, and {free >> 20} MB are free"
        raise HostError(what, str(directory), fix)


def space(path: Path) -> Space:
    """Bytes and inodes of the file system that holds a path. A file system without inodes has 0 of them."""
    disk = os.statvfs(path)
    return {
        "free": disk.f_bavail * disk.f_frsize,
        "total": disk.f_blocks * disk.f_frsize,
        "inodes_free": disk.f_favail,
        "inodes": disk.f_files,
    }


def size(place: Path) -> int:
    """The size in bytes of a file, or of all files below a directory; 0 for one that does not exist."""
    files = [place] if place.is_symlink() or not place.is_dir() else _files(place)
    return sum(path.lstat().st_size for path in files if path.is_symlink() or path.exists())


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())


def has_files(directory: Path) -> bool:
    """Whether there is any file below a directory."""
    return next(_files(directory), None) is not None


def used_space(directory: Path) -> int:
    """The bytes that the files below a directory take on the disk."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += Path(parent, name).lstat().st_blocks * BLOCK
    return total
