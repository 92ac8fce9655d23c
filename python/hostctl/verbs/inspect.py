"""`hostctl APP inspect`: the facts that a push needs before it builds and uploads."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

import hostctl
from hostctl.common.files import Json
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.release import app_config, records, upload
from hostctl.verbs import status


def inspect(app: App) -> Json:
    """The host, its artifacts, its releases and the lock, in one document: one remote command suffices."""
    document = {
        "hostctl": hostctl.__version__,
        "stamp": app_config.load(app).get("stamp"),
        "os": _os_release(),
        **_machine(),
    }
    document |= {
        "disk": status.disk(app),
        "memory": memory(Path("/proc/meminfo").read_text()),
        "cpus": os.cpu_count(),
    }
    document |= {"artifacts": upload.artifact_digests(app), "partial": upload.partial(app)}
    every = [records.summary(app, record) for record in records.every(app)]
    live = [summary for summary in every if summary["live"]]
    document |= {"live": live[0] if live else None, "releases": every, "lock": lock.holder(app)}
    return document | {"transition": status.transition(app), "time": time.time()}


def _os_release() -> Json:
    release = platform.freedesktop_os_release()
    return {
        "id": release.get("ID"),
        "version_id": release.get("VERSION_ID"),
        "codename": release.get("VERSION_CODENAME"),
    }


def _machine() -> Json:
    glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2]
    return {"machine": os.uname().machine, "glibc": glibc, "libraries": libraries(_ldconfig())}


def _ldconfig() -> str:
    done = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout


def libraries(listing: str) -> list[str]:
    """The sonames in the output of `ldconfig -p`."""
    return sorted(set(re.findall(r"^\t(\S+) \(", listing, re.MULTILINE)))


def memory(meminfo: str) -> Json:
    """Total and available memory in bytes, from /proc/meminfo."""
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE))
    return {
        "total": int(kilobytes.get("MemTotal", 0)) << 10,
        "available": int(kilobytes.get("MemAvailable", 0)) << 10,
    }
