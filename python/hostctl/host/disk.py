"""Space on the host's disks."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from hostctl.common.documents import Space
from hostctl.common.errors import HostError

BLOCK = 512  # bytes of a block, stat(2)
SPARE = 256 << 20  # bytes left free beside a copy


def require_room(directory: Path, need: int, what: str) -> None:
    """Raises HostError unless `what`, so many bytes, has room there, and some is left."""
    free = shutil.disk_usage(directory).free
    if free < need + SPARE:
        told = f"there is no room for {what}: it needs {(need + SPARE) >> 20} MB, and {free >> 20} MB are free"
        raise HostError(told, str(directory), "free some space on the host (df -h tells)")


def space(path: Path) -> Space:
    """Bytes and inodes of the file system that holds a path. A file system without inodes has 0 of them."""
    disk = os.statvfs(path)
    return {
        "free": disk.f_bavail * disk.f_frsize,
        "total": disk.f_blocks * disk.f_frsize,
        "inodes_free": disk.f_favail,
        "inodes": disk.f_files,
    }


def used(directory: Path) -> int:
    """The bytes that the files below a directory take on the disk."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += Path(parent, name).lstat().st_blocks * BLOCK
    return total
