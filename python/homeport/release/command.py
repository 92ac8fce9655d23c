"""Runs a build command, and reports its output line by line."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from homeport.core.errors import HomeportError

Report = Callable[[str], None]
KEPT_LINES = 20


def run(argv: Sequence[str], cwd: Path, env: Mapping[str, str], report: Report, fix: str = "") -> None:
    """Run the command with `env` added to the environment; its stdin is empty, so that it cannot prompt.

    Raises HomeportError with the last lines if it fails or is not installed.
    """
    last: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        raise HomeportError(f"{argv[0]} is not installed on this machine", "", fix) from None
    with process:
        try:
            for line in process.stdout or ():
                last.append(line.rstrip())
                report(line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise _failure(argv, process.returncode, list(last), cwd, fix)


def _failure(argv: Sequence[str], status: int, last: list[str], cwd: Path, fix: str) -> HomeportError:
    output = "".join(f"\n    {line}" for line in last)
    what = f"`{shlex.join(argv)}` failed with status {status}{':' if output else ''}{output}"
    return HomeportError(what, str(cwd), fix or "correct what the command reports, then try again")
