"""`hostctl APP apps`: every app of the host and its state."""

from __future__ import annotations

import subprocess

from hostctl.backup import settings
from hostctl.common.documents import Status
from hostctl.common.errors import HostError
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App, Layout
from hostctl.host.host import Host
from hostctl.verbs.status import status

PATIENCE = 60  # seconds for measuring the disk usage of an app


def every(layout: Layout, host: Host) -> list[Json]:
    """Each provisioned app, sorted by name; times in seconds since the epoch, sizes in bytes."""
    return [summary(app, host) for app in layout.apps()]


def summary(app: App, host: Host) -> Json:
    """A summary of an app. One whose state cannot be read has the state `unknown` and the reason in `why`."""
    settings = read_json(app.config) or {}
    # provisioning writes the destination; an app of deploy.yml alone has none
    named = {"app": app.name, "destination": settings.get("destination") or None}
    try:
        return {**named, **_state_of(app, host), "bytes": used_space(app)}
    except (HostError, OSError, ValueError, LookupError) as error:
        known = {"domains": settings.get("domains", []), "live": None, "lock": None}
        return {**named, **known, "state": "unknown", "why": str(error), "engine": None, "bytes": used_space(app)}


def _state_of(app: App, host: Host) -> Json:
    now = status(app, host)
    live, names = now["live"], (read_json(app.config) or {}).get("domains", [])
    document = {
        "domains": names,
        "state": state_name(now),
        "why": "; ".join(now["trouble"]),
        "engine": settings.engine(app),
    }
    return document | {"live": live and {key: live[key] for key in ("release", "since", "port")}, "lock": now["lock"]}


def state_name(status: Status) -> str:
    """`live`, `failing`, or `empty` before the first push."""
    if not status["live"]:
        return "empty"
    return "live" if status["health"]["ok"] else "failing"


def used_space(app: App) -> int | None:
    """Bytes that releases, state and data take on the disk; hard links count once. None when this takes too long."""
    places = [str(path) for path in (app.srv, app.state, app.data, app.cluster) if path.exists()]
    if not places:
        return 0
    words = ["du", "--summarize", "--total", "--block-size=1", "--one-file-system", "--", *places]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
        return int(done.stdout.splitlines()[-1].split()[0])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
