"""Runs programs of this machine, and shows their output only if they fail."""

from __future__ import annotations

import os
import shutil
import subprocess

from homeport.core.errors import HomeportError


def environment(**more: str) -> dict[str, str]:
    """The environment with sbin on PATH, which a root shell from Debian's plain `su` lacks."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", **more}


def has(program: str) -> bool:
    """Whether a program is installed."""
    return shutil.which(program, path=environment()["PATH"]) is not None


def run(*argv: str) -> str:
    """The output of the command. Raises HomeportError with its last lines if it fails."""
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        fix = "correct that, then run `deploy sandbox up` again, which removes the incomplete sandbox"
        what = f"{argv[0]} failed (exit status {done.returncode}): {last}"
        raise HomeportError(what, " ".join(argv), fix)
    return done.stdout


def succeeds(*argv: str, stdin: str = "") -> bool:
    """Whether the command ends with status 0; its output is dropped."""
    done = subprocess.run(argv, env=environment(), input=stdin.encode(), capture_output=True, check=False)
    return done.returncode == 0
