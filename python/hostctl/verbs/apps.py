"""`hostctl APP apps`: every app of the host, as it is now."""

from __future__ import annotations

import subprocess

from hostctl.backup import settings
from hostctl.common.documents import Status
from hostctl.common.errors import HostError
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App, Layout
from hostctl.host.host import Host
from hostctl.verbs.status import status

PATIENCE = 60  # seconds for counting what an app has on the disk


def every(layout: Layout, host: Host) -> list[Json]:
    """Each provisioned app, sorted by name; times in seconds since the epoch, sizes in bytes."""
    return [one(app, host) for app in layout.apps()]


def one(app: App, host: Host) -> Json:
    """An app in short. What cannot be told of one says why, and hides no other."""
    settings = read_json(app.config) or {}
    # of provisioning: deploy.yml alone has no destination
    named = {"app": app.name, "destination": settings.get("destination") or None}
    try:
        return {**named, **_told(app, host), "bytes": used(app)}
    except (HostError, OSError, ValueError, LookupError) as error:
        known = {"domains": settings.get("domains", []), "live": None, "lock": None}
        return {**named, **known, "state": "unknown", "why": str(error), "engine": None, "bytes": used(app)}


def _told(app: App, host: Host) -> Json:
    found = status(app, host)
    live, names = found["live"], (read_json(app.config) or {}).get("domains", [])
    told = {
        "domains": names,
        "state": state(found),
        "why": "; ".join(found["trouble"]),
        "engine": settings.engine(app),
    }
    return told | {"live": live and {key: live[key] for key in ("release", "since", "port")}, "lock": found["lock"]}


def state(found: Status) -> str:
    """In a word: live, failing, or empty before the first push."""
    if not found["live"]:
        return "empty"
    return "live" if found["health"]["ok"] else "failing"


def used(app: App) -> int | None:
    """Bytes on the disk of releases, state and data; a file of several names counts once. None if it takes too long."""
    places = [str(path) for path in (app.srv, app.state, app.data, app.cluster) if path.exists()]
    if not places:
        return 0
    words = ["du", "--summarize", "--total", "--block-size=1", "--one-file-system", "--", *places]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
        return int(done.stdout.splitlines()[-1].split()[0])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
