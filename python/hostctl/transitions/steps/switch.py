"""The steps of a switch to another release, which push and rollback share: start, flip, verify, live.

The step health is that of hostctl.instance.health.
"""

from __future__ import annotations

from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.common.net.http import Answer
from hostctl.cron import timers
from hostctl.edge import maintenance
from hostctl.host import listeners
from hostctl.host.host import wait_for_silence
from hostctl.instance import health
from hostctl.instance import start as instance_start
from hostctl.journal.engine import NEW, Work
from hostctl.release import app_config, records

POLL = 0.1  # seconds between two requests while nothing listens
FIRST_CERTIFICATE = 60.0  # seconds in which the edge gets the first certificate of a name
EDGE_RESTART = 5.0  # seconds in which the edge restarts
WRONG_ANSWERS = 3
SETTLE = 5.0  # seconds for requests to end that the release got before it was reverted


# ---------------------------------------------------------------------------------------------- start


def start(work: Work) -> str:
    """The step `start`: start the instance on a port of its own. A rollback takes one that still drains as it is.

    Returns a line to show.
    """
    unit = work.app.unit(work.release)
    shown = work.host.systemd.show(unit)[0]
    if work.verb == "rollback" and shown.state == "active":
        work.journal.set(baseline=shown.restarts)
        return f"{unit} still runs"
    if shown.state not in ("inactive", "unknown"):
        work.host.systemd.stop(unit)
    number = instance_start.assign_port(work)
    work.journal.set(baseline=0)
    instance_start.start(work.app, work.release, work.host)
    return f"{unit} on port {number}"


def stop_new(work: Work) -> None:
    """The undo of start. Raises HostError for the live release."""
    if work.app.live() == work.release:
        raise HostError(f"{work.release} is still live", str(work.app.live_link))
    work.host.systemd.stop(work.app.unit(work.release))


# ---------------------------------------------------------------------------------------------- flip


def flip(work: Work) -> None:
    """The step `flip`: one rename. From the next request on, the edge reads the new instance's port.

    Raises HostError when another process has taken the port since the health check.
    """
    if work.app.live() != work.release:
        require_port(work)
    records.publish_port(work.app, work.release)
    maintenance.write_health_path(work.app, work.release, work.settings["health"]["path"])
    files.point(work.app.live_link, f"releases/{work.release}")
    files.point(work.app.srv / "current", f"releases/{work.release}")


def require_port(work: Work) -> None:
    """Raises HostError when a process that is not the new instance's listens on its port."""
    unit, number = work.app.unit(work.release), records.next_port(work.app, work.release)
    if work.host.listener(unit, number) == listeners.FOREIGN:
        what = f"a process that is not of {unit} listens on its port {number}"
        raise HostError(what, unit, "ss -ltnp on the host tells which process it is")


def flip_back(work: Work) -> None:
    """The undo of flip. Waits for requests that the release got meanwhile."""
    was_live = work.app.live() == work.release
    previous = work.journal.previous
    if previous is None:
        files.unlink(work.app.live_link)
        files.unlink(work.app.srv / "current")
    else:
        files.point(work.app.live_link, f"releases/{previous}")
        files.point(work.app.srv / "current", f"releases/{previous}")
    if was_live and not work.booting:
        wait_until_drained(work, records.port(work.app, work.release), SETTLE)


def wait_until_drained(work: Work, number: int | None, longest: float) -> int:
    """Wait at least a second, until no connection to the port is open or `longest` seconds have passed.

    Returns the number of connections that are still open.
    """
    first = min(1.0, longest)  # requests that the edge has just sent connect meanwhile
    work.host.sleep(first)
    return 0 if number is None else wait_for_silence(work.host, number, longest - first, POLL)


# ---------------------------------------------------------------------------------------------- verify


def verify(work: Work) -> str:
    """The step `verify`: request every domain by HTTPS through the edge. Returns a line to show. Raises HostError."""
    names = app_config.domains(work.app, work.settings)
    for name in names:
        _verify_name(work, name, names)
    shown = "; visitors see the maintenance page" if maintenance.current(work.app) else ""
    return ", ".join(f"https://{name}" for name in names) + shown


def _verify_name(work: Work, name: str, names: list[str]) -> None:
    path, timeout = work.settings["health"]["path"], work.settings["health"]["timeout"]
    begun, wrong, noted = work.host.clock(), 0, False
    while True:
        answer = work.host.get(443, name, path, timeout, tls=True)
        if answer.is_success or _leads_to(answer, name, names):
            return
        wrong += bool(answer.status)
        if wrong >= WRONG_ANSWERS or work.host.clock() - begun >= _time_limit(answer):
            raise _unverified(answer, name, path)
        if answer.why == "tls" and not noted:
            work.note(f"waiting for the first certificate of {name}")
            noted = True
        work.host.sleep(2 * POLL)


def _leads_to(answer: Answer, name: str, names: list[str]) -> bool:
    """Whether the answer is the redirect of one of the app's names to another."""
    others = tuple(f"https://{other}/" for other in names if other != name)
    return answer.status in (301, 308) and answer.location.startswith(others)


def _time_limit(answer: Answer) -> float:
    """Seconds until a failed request counts as final: a certificate takes longest."""
    return FIRST_CERTIFICATE if answer.why == "tls" else EDGE_RESTART


def _unverified(answer: Answer, name: str, path: str) -> HostError:
    if answer.why == "tls":
        what = f"there is no certificate for {name}: {answer.detail}"
        fix = f"check that {name} resolves to this host; see journalctl -u caddy"
        return HostError(what, f"https://{name}", fix)
    if answer.why == "refused":
        return HostError("the edge is not running", f"https://{name}", "systemctl status caddy")
    what = f"https://{name}: {health.explain(answer, name, path)}"
    return HostError(what, f"https://{name}{path}", "deploy logs")


# ---------------------------------------------------------------------------------------------- live


def live(work: Work) -> str:
    """The step `live`: record the states of both releases and apply the timers of its jobs. Returns a line to show."""
    records.mark(work.app, work.release, records.LIVE)
    previous = work.journal.previous
    if previous is not None:
        records.mark(work.app, previous, records.SUPERSEDED, "rollback" if work.verb == "rollback" else "")
    timers.apply(work.app, work.release, work.host)
    return f"{work.release} is live"


def live_back(work: Work) -> None:
    """The undo of live. `conclude` marks the release as failed afterwards."""
    if records.load(work.app, work.release)["state"] == records.LIVE:
        records.unmark(work.app, work.release, records.STAGED if work.verb in NEW else records.SUPERSEDED)
    if work.journal.previous is not None:
        records.unmark(work.app, work.journal.previous, records.LIVE)
    timers.apply(work.app, work.journal.previous, work.host)
