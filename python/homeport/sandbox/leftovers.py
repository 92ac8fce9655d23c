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

_PATIENCE = 15.0  # seconds that killed processes may take to be gone
_LOOKS, _PAUSE = 5, 0.05  # looks in a row that must find none, and the seconds between two


def processes(name: str) -> set[int]:
    """Every process that carries the sandbox's name in its environment."""
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

    Looks several times before it is sure: while a process is replaced by another program (execve), its environment is
    empty, and on a busy machine that takes longer than the pause between two looks.
    """
    deadline, unseen = time.monotonic() + _PATIENCE, 0
    while unseen < _LOOKS:
        left = processes(name) - set(spared) - {os.getpid()}
        unseen = 0 if left else unseen + 1
        if time.monotonic() > deadline:
            pids = " ".join(str(pid) for pid in sorted(left))
            raise HomeportError(f"processes of {name} do not end", f"processes {pids}", f"ps -fp {pids}")
        for pid in left:
            _signal(pid)
        time.sleep(_PAUSE)


def kill_with_children(pid: int) -> None:
    """End a process and its children; with the first of a process namespace all in there ends at once."""
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
