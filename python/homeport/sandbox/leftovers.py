"""Finds and removes the processes, mounts and files of a sandbox, also of one whose state is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

from homeport.core.errors import HomeportError
from homeport.sandbox.commands import run, succeeds
from homeport.sandbox.model import MARKER

_END_SECONDS = 15.0  # the time limit for killed processes to end
_SCANS, _PAUSE = 5, 0.05  # consecutive scans that must find none, and the seconds between two


def processes(name: str) -> set[int]:
    """Every process with the sandbox's name in its environment."""
    marker = f"{MARKER}={name}".encode()
    return {pid for pid in _pids() if marker in _environment(pid)}


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


def kill(name: str, spared: Collection[int] = ()) -> None:
    """End every process of a sandbox at once. Raises HomeportError when one cannot be ended.

    Several scans in a row must find none: while a process executes another program (execve), its environment is empty,
    and on a busy machine that takes longer than the pause between two scans.
    """
    deadline, empty_scans = time.monotonic() + _END_SECONDS, 0
    while empty_scans < _SCANS:
        left = processes(name) - set(spared) - {os.getpid()}
        empty_scans = 0 if left else empty_scans + 1
        if time.monotonic() > deadline:
            pids = " ".join(str(pid) for pid in sorted(left))
            raise HomeportError(f"processes of {name} do not end", f"processes {pids}", f"ps -fp {pids}")
        for pid in left:
            _signal(pid)
        time.sleep(_PAUSE)


def kill_with_children(pid: int) -> None:
    """End a process and its children. The end of the first process of a namespace ends all others in it."""
    for child in _children(pid):
        _signal(child)
    _signal(pid)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def remove_directory(directory: Path) -> None:
    """Unmount what is mounted below a directory, then remove it."""
    mounted = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())
    for point in sorted((point for point in mounted if point.startswith(f"{directory}/")), reverse=True):
        succeeds("umount", "--lazy", point)
    run("rm", "-rf", "--one-file-system", str(directory))
