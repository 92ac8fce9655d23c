"""Runs programs of this machine, and shows their output only if they fail."""

from __future__ import annotations

import os
import shutil
import subprocess

from homeport.core.errors import HomeportError


def environment(**more: str) -> dict[str, str]:
    """The environment with sbin on PATH: Debian's plain `su` leaves root with the PATH of the user before."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", **more}


def has(program: str) -> bool:
    """Whether a program is installed."""
    return shutil.which(program, path=environment()["PATH"]) is not None


def run(*argv: str) -> str:
    """What the command printed. Raises HomeportError with its last lines when it fails."""
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        fix = "correct that, then run `deploy sandbox up` again, which removes what is left"
        what = f"{argv[0]} failed (exit status {done.returncode}): {said}"
        raise HomeportError(what, " ".join(argv), fix)
    return done.stdout


def succeeds(*argv: str, given: str = "") -> bool:
    """Whether the command ended with status 0; nothing is printed."""
    done = subprocess.run(argv, env=environment(), input=given.encode(), capture_output=True, check=False)
    return done.returncode == 0
