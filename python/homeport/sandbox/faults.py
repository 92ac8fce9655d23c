"""Faults of the sandbox's S3 store for tests, besides an outage (see `cut`): it is full, or rejects the keys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeport.core.errors import HomeportError
from homeport.sandbox import durable, leftovers
from homeport.sandbox.commands import environment
from homeport.sandbox.model import BUCKET, Sandbox

_MASTER_PORT, _FILER_PORT = 9333, 8888


@contextmanager
def full(sandbox: Sandbox) -> Iterator[None]:
    """Every write into the bucket fails during the block, as in SeaweedFS for a bucket beyond its quota.

    Objects can still be read and deleted.
    """
    location = f"fs.configure -locationPrefix=/buckets/{BUCKET}/"
    _shell(sandbox, f"{location} -readOnly -apply")
    try:
        yield
    finally:
        _shell(sandbox, f"{location} -delete -apply")


def _shell(sandbox: Sandbox, command: str) -> None:
    address = sandbox.services_address
    argv = [str(sandbox.machine / "weed"), "shell", f"-master={address}:{_MASTER_PORT}"]
    done = subprocess.run(
        [*argv, f"-filer={address}:{_FILER_PORT}"],
        input=f"{command}\nexit\n",
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0 or "error" in done.stdout + done.stderr:
        log = sandbox.directory / "logs" / "s3.log"
        raise HomeportError(f"weed shell failed: {(done.stdout + done.stderr)[-500:]}", command, f"less {log}")


@contextmanager
def revoked(sandbox: Sandbox) -> Iterator[None]:
    """S3 rejects the sandbox's keys during the block."""
    config = sandbox.machine / "s3.json"
    before = config.read_text()
    changed = json.loads(before)
    changed["identities"][0]["credentials"][0]["accessKey"] += "-ANOTHER"
    _reload(sandbox, json.dumps(changed))
    try:
        yield
    finally:
        _reload(sandbox, before)


def _reload(sandbox: Sandbox, identities: str) -> None:
    durable.write(sandbox.machine / "s3.json", identities, 0o600)
    for pid in leftovers.processes(sandbox.name):
        if _program(pid) == sandbox.machine / "weed":
            os.kill(pid, signal.SIGHUP)


def _program(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return None
