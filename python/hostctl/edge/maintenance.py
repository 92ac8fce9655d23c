"""`hostctl APP maintenance ACTION`: shows a maintenance page instead of the app.

The files decide: at every request the edge checks whether the file `on` exists (roles/edge, app.json.j2). Nothing
is reloaded, so no other app's connections are dropped, and the page is still shown after a reboot.
The path of the health check and the addresses that are let through are files as well.
"""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from hostctl.common import files
from hostctl.common.documents import MaintenancePage, MaintenanceState
from hostctl.common.errors import DONE, FAILED, HostError
from hostctl.common.files import Json, read_json
from hostctl.core import audit
from hostctl.core.actor import Actor
from hostctl.core.paths import App
from hostctl.host.host import Host, wait_for_silence
from hostctl.instance import agent
from hostctl.journal import journal
from hostctl.release import app_config, records

ON, PAGE, PAGES = "on", "page", "pages"
# beside the record's port, as the edge reads it at every request: the path that it lets through
HEALTH = "health"
# no path of an app's, and so never that of its health check
PROBE_PATH = "/.homeport/maintenance"
PROBE = 5.0  # seconds
# seconds that requests in progress get to end, at most; then every connection is closed, websockets above all
GRACE = 10.0
LONGEST = 30.0  # seconds in which an instance closes its connections
POLL = 0.2  # seconds between two counts of the open connections

# in the instance: every connection that was made to its port; the process behind it sees that the peer has gone
CUT = (
    'for port <- :erlang.ports(), :erlang.port_info(port, :name) == {:name, ~c"tcp_inet"},'
    " match?({:ok, {_, %d}}, :inet.sockname(port)), match?({:ok, _}, :inet.peername(port)),"
    " do: :gen_tcp.shutdown(port, :read_write)"
)


def folder(app: App) -> Path:
    """The directory of the page, which the edge reads."""
    return app.state / "maintenance"


def current(app: App) -> MaintenanceState | None:
    """Since when the page is shown, by whom, and who still sees the app; None while the app is shown."""
    return cast("MaintenanceState | None", read_json(folder(app) / ON))


def write_health_path(app: App, release: str, path: str) -> None:
    """Write down the path of a release's health check: the edge passes it to the app, page or no page."""
    # as the edge reads a request's: without the query, and decoded
    bare = unquote(path.partition("?")[0])
    files.write_atomic(app.record(release) / HEALTH, bare.encode(), 0o644)


# ---------------------------------------------------------------------------------------------- on


def on(app: App, spec: MaintenancePage, who: Actor, host: Host) -> Json:
    """Show the page `spec.page`, or another than before; returns what `now` tells, and what `cut` did.

    Raises HostError, and changes nothing, where the edge does not show it.
    """
    before, live = current(app), app.live()
    if live:
        write_health_path(app, live, records.load(app, live)["settings"]["health"]["path"])
    _write_page(app, spec)
    state: MaintenanceState = {
        "since": before["since"] if before else time.time(),
        "who": who.name,
        "from": who.origin,
        "message": spec["message"],
        "allow": spec["allow"],
        "retry_after": spec["retry_after"],
    }
    files.write_json(folder(app) / ON, state, 0o644)  # the edge opens what it looks for
    _require_shown(app, host, before)
    _sweep(app)
    audit.note(app, who.name, who.origin, "maintenance on", spec["message"])
    return {"maintenance": state, **close_connections(app, host)}


def _write_page(app: App, spec: MaintenancePage) -> None:
    """A directory of its own, so that one rename takes all of it in place of the former."""
    home = folder(app)
    page = home / PAGES / os.urandom(6).hex()
    for directory in (home, page.parent, page, page / "allow"):
        files.make_directory(directory, 0o755)
    for name, text in (("page.html", spec["page"]), ("retry", str(spec["retry_after"]))):
        files.write_atomic(page / name, text.encode(), 0o644)
    for address in spec["allow"]:
        files.write_atomic(page / "allow" / address, b"", 0o644)
    files.point(home / PAGE, f"{PAGES}/{page.name}")


def _sweep(app: App) -> None:
    """Take away the pages of before, and what a kill has left."""
    shown = (folder(app) / PAGE).readlink().name
    for page in (folder(app) / PAGES).iterdir():
        if page.name != shown:
            files.remove_tree(page)


def _require_shown(app: App, host: Host, before: MaintenanceState | None) -> None:
    """An edge that an older Homeport has set up knows of no page. One that does not run shows it as soon as it does."""
    for name in app_config.load(app)["domains"]:
        status = host.get(443, name, PROBE_PATH, PROBE, tls=True).status
        if status not in (0, 503):
            if before is None:
                files.unlink(folder(app) / ON)
            what = f"the edge goes on to serve {name} (it answers {status}): it knows of no maintenance page"
            raise HostError(what, f"/etc/homeport/edge/apps/{app.name}.json", "deploy provision", FAILED)


def close_connections(app: App, host: Host) -> Json:
    """Let requests in progress end, then close what is still connected to an instance; whoever may pass connects anew.

    Returns how many were closed, and how many stay open because their instance cannot be asked.
    """
    told = {"closed": 0, "open": 0}
    for release in filter(None, (app.live(), *(entry.previous for entry in journal.draining(app)))):
        number = records.port(app, release) or 0
        if left := wait_for_silence(host, number, _grace(app, release), POLL):
            told["closed" if _close(app, release, number, host) else "open"] += left
    return told


def _grace(app: App, release: str) -> float:
    longest: float = records.load(app, release)["settings"]["drain_timeout"]
    return min(longest, GRACE)


def _close(app: App, release: str, number: int, host: Host) -> bool:
    """Whether the instance did it; one that an older Homeport has started cannot be asked."""
    try:
        nowhere = io.BytesIO()
        return agent.rpc(agent.find(app, release, host), CUT % number, nowhere, nowhere, LONGEST) == DONE
    except HostError:
        return False


# ---------------------------------------------------------------------------------------------- off


def off(app: App, who: Actor) -> Json:
    """Show the app again; returns what was so until now. The page stays for requests that are being answered by it."""
    before = current(app)
    files.unlink(folder(app) / ON)
    if before is not None:
        audit.note(app, who.name, who.origin, "maintenance off", "")
    return {"maintenance": None, "was": before}
