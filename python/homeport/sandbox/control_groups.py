"""Creates a control group for each sandbox, because two systemds in one group would manage each other's processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

_LEAVE_SECONDS = 15.0  # the time limit for killed processes to leave their groups


def hierarchies(mounts: str) -> list[Path]:
    """The hierarchies in which systemd has groups, by the text of /proc/mounts: version 2, and its own of version 1."""
    rows = (line.split() for line in mounts.splitlines())
    return [Path(point) for _, point, kind, options, *_ in rows if _systemd_uses(kind, options.split(","))]


def _systemd_uses(kind: str, options: list[str]) -> bool:
    return kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options)


def _groups(name: str) -> list[Path]:
    points = hierarchies(Path("/proc/mounts").read_text())
    return [point / f"homeport-sandbox-{name}" for point in points]


def enter(name: str) -> None:
    """Move this process into the sandbox's own group; its later children are in that group as well."""
    for group in _groups(name):
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text(str(os.getpid()))


def remove(name: str) -> None:
    """Remove the sandbox's group and the groups of its systemd, once its killed processes have left them."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    for group in _groups(name):
        while group.exists() and not _try_remove(group) and time.monotonic() < deadline:
            time.sleep(0.05)


def _try_remove(group: Path) -> bool:
    try:
        for directory, _, _ in os.walk(group, topdown=False):
            Path(directory).rmdir()
    except OSError:  # a killed process has not left the group yet
        return False
    return True
