"""Checks whether sandboxes can run on this machine, and runs `deploy sandbox` as root for a user."""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from homeport.core.errors import ExitCode, HomeportError
from homeport.sandbox.commands import has

_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "pebble": "pebble",
    "pebble-challtestsrv": "pebble",
    "update-ca-certificates": "ca-certificates",
}


def check_machine() -> None:
    """Raises HomeportError, naming what to install, unless sandboxes can run here."""
    if platform.system() != "Linux":
        fix = "use a Debian 12 or 13 machine, or a virtual one on this machine"
        raise HomeportError("the sandbox needs Linux: it boots a Debian host", platform.system(), fix)
    missing = sorted({package for program, package in _PROGRAMS.items() if not has(program)})
    if missing:
        fix = f"apt-get install --no-install-recommends {' '.join(missing)}"
        raise HomeportError(f"the sandbox needs {', '.join(missing)}", platform.node(), fix)
    if not is_root():
        _sudo()


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def rerun_as_root(arguments: Sequence[str]) -> None:
    """Run `deploy sandbox` with these arguments through sudo; only its progress is shown."""
    argv = [_sudo(), sys.executable, "-m", "homeport.verbs.sandbox", *arguments]
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        what = "the same command through sudo failed; its error is above"
        raise HomeportError(what, platform.node(), " ".join(argv), done.returncode)


def _sudo() -> str:
    program = shutil.which("sudo")
    if program is None:
        fix = "install sudo and allow it to yourself, or run the same command as root"
        raise HomeportError("a sandbox needs root, and sudo is not installed", platform.node(), fix)
    return program


def owner() -> int:
    """The owner of the sandbox: the user who called sudo, otherwise the current user."""
    return int(os.environ.get("SUDO_UID", os.geteuid()))


def give(paths: Sequence[Path], user: int) -> None:
    """Make a user the owner of files that nobody else may read."""
    try:
        group = pwd.getpwuid(user).pw_gid
    except KeyError as error:
        raise HomeportError(f"there is no user {user}", "SUDO_UID", "", ExitCode.USAGE) from error
    for path in paths:
        os.chown(path, user, group)
