"""Space on the host's disks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hostctl.common.documents import Space
from hostctl.common.errors import HostError

SPARE = 256 << 20  # bytes left free beside a copy


def require_room(directory: Path, need: int, what: str) -> None:
    """Raises HostError unless `what`, so many bytes, has room there, and some is left."""
    free = shutil.disk_usage(directory).free
    if free < need + SPARE:
        told = f"there is no room for {what}: it needs {(need + SPARE) >> 20} MB, and {free >> 20} MB are free"
        raise HostError(told, str(directory), "free some space on the host (df -h tells)")


def space(path: Path) -> Space:
    """Bytes and inodes of the file system that holds a path. One that counts no inodes has 0 of them."""
    found = os.statvfs(path)
    return {
        "free": found.f_bavail * found.f_frsize,
        "total": found.f_blocks * found.f_frsize,
        "inodes_free": found.f_favail,
        "inodes": found.f_files,
    }
