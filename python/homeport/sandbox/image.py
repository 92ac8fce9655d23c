"""The Debian image that sandboxes are unpacked from, created once for each suite, list of packages and archives."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from homeport.core.errors import HomeportError
from homeport.sandbox import durable, leftovers, sources
from homeport.sandbox.commands import environment, run
from homeport.sandbox.model import MARKER

CACHE = Path("/var/cache/homeport/sandbox")
_FORMAT = 1  # increase it if the same packages give another tree from now on
# besides Debian's "important" packages: those of the usual images of rented servers
PACKAGES = (
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "openssh-server",
    "python3",
    "sudo",
    "ca-certificates",
    "curl",
    "iproute2",
    "nftables",
    "zstd",
    "xz-utils",
    "procps",
    "rsync",
    "less",
    "openssl",
    "gnupg",
    "locales",
    "lsof",
    "htop",
    "unzip",
)
# manuals are not needed in a sandbox, and are half of its files
_DPKG = ("path-exclude=/usr/share/man/*", "path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/locale/*")


def key(suite: str, archives: Sequence[sources.Source]) -> str:
    """The key of an image in the cache: the same key means the same packages from the same archives."""
    document = [_FORMAT, suite, PACKAGES, _DPKG, [source.line() for source in archives]]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]


def cache_path(suite: str) -> Path:
    """The path of the tar of a suite, which may not exist yet."""
    return CACHE / f"{suite}-{key(suite, sources.of_machine(suite))}.tar"


def fetch(suite: str) -> Path:
    """The tar of a suite, from the cache; otherwise it is created, which takes about a minute."""
    tar = cache_path(suite)
    CACHE.mkdir(parents=True, exist_ok=True)
    with durable.lock(f"image-{suite}"):
        if not tar.is_file():
            _make(suite, sources.of_machine(suite), tar)
            _forget_others(suite, tar)
    return tar


def unpack(tar: Path, tree: Path) -> None:
    """Unpack the tar into the new directory `tree`."""
    tree.mkdir(mode=0o755)
    run("tar", "-x", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f", str(tar), "-C", str(tree))


def _make(suite: str, archives: Sequence[sources.Source], tar: Path) -> None:
    part, work = CACHE / f"{suite}.part.tar", CACHE / f"{suite}.work"
    _clear(part, work)
    options = ["--mode=root", "--variant=important", f"--include={','.join(PACKAGES)}"]
    options += [f"--dpkgopt={option}" for option in _DPKG]
    argv = ["mmdebstrap", *options, suite, str(part), *(source.line() for source in archives)]
    work.mkdir()
    try:
        _run_marked(argv, suite, work)
        _keep(part, tar)
    finally:
        _clear(part, work)


def _marker(suite: str) -> str:
    """The marker of the processes that create an image. It has a space, which the name of no sandbox has."""
    return f"image {suite}"


def _clear(part: Path, work: Path) -> None:
    """Remove the processes, mounts and files that a killed run left."""
    leftovers.kill(_marker(work.stem))
    leftovers.remove_directory(work)
    part.unlink(missing_ok=True)


def _run_marked(argv: list[str], suite: str, work: Path) -> None:
    # a work directory beside the cache, since /tmp is memory on Debian 13
    env = environment(TMPDIR=str(work), **{MARKER: _marker(suite)})
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-15:])
        fix = "make `apt-get update` work on this machine, then run this again"
        raise HomeportError(f"Debian {suite} could not be installed:\n{last}", "mmdebstrap", fix)


def _keep(part: Path, tar: Path) -> None:
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.rename(tar)


def _forget_others(suite: str, tar: Path) -> None:
    for old in CACHE.glob(f"{suite}-*.tar"):
        if old != tar:
            old.unlink()
