"""Health checks of an instance, and what their answers mean."""

from __future__ import annotations

from hostctl.common import files
from hostctl.common.documents import HealthCheck
from hostctl.common.errors import HostError
from hostctl.common.net.http import Answer
from hostctl.host import listeners
from hostctl.host.host import Host
from hostctl.host.systemd import Unit
from hostctl.journal.engine import Work
from hostctl.release import app_config, records
from hostctl.release.redact import redact

POLL = 0.1  # seconds between two checks
JOB_QUEUED = 2.0  # seconds in which a start job may still be queued
LAST_LINES = 50  # of an instance's log, kept beside its record


def wait_until_healthy(host: Host, unit: str, port: int, domain: str, check: HealthCheck) -> None:
    """Return when an instance that was started again is healthy.

    Raises HostError when it is not within its deploy_timeout.
    """
    deadline = host.clock() + check["deploy_timeout"]
    while why := problem(
        host, unit, port, domain, check["path"], host.get(port, domain, check["path"], check["timeout"])
    ):
        if host.clock() >= deadline:
            raise HostError(f"{unit} is not healthy again: {why}", unit, "deploy logs")
        host.sleep(POLL)


def problem(host: Host, unit: str, port: int, domain: str, path: str, answer: Answer) -> str:
    """Why an answer from the port is no pass of the unit's health check; "" if it is.

    An answer counts only if nobody but the unit's processes listens on the port.
    """
    if not answer.is_success:
        return explain(answer, domain, path)
    return listener_problem(host.listener(unit, port), unit, port)


def listener_problem(holder: str, unit: str, port: int) -> str:
    """Why the answers from a unit's port do not count, by whose the port is; "" if they do."""
    if holder == listeners.FOREIGN:
        return f"a process that is not of {unit} listens on its port {port} (ss -ltnp tells which)"
    return f"nothing of {unit} listens on its port {port}" if holder == listeners.NOBODY else ""


def explain(answer: Answer, host: str, path: str) -> str:
    """Why an answer is no pass, and what usually causes it.

    The check sends this Host and X-Forwarded-Proto: https.
    """
    if not answer.status:
        return f"GET {path}: {answer.detail or answer.why}"
    meaning = _redirect(answer) if 300 <= answer.status < 400 else _meaning(answer.status, host)
    return f"GET {path} answered {answer.status}" + (f": {meaning}" if meaning else "")


def _redirect(answer: Answer) -> str:
    to = f"it redirects to {answer.location}" if answer.location else "it redirects"
    if answer.location.startswith("https://"):
        return f"{to}; force_ssl does not see X-Forwarded-Proto: set rewrite_on: [:x_forwarded_proto]"
    return f"{to}; name a path that answers 2xx without logging in (health.path)"


def _meaning(status: int, host: str) -> str:
    if status == 400:
        return f"the app refuses the Host {host}; look at url: [host:] and check_origin of the endpoint"
    if status in (401, 403):
        return "the path needs a login; name one that needs none (health.path)"
    if status == 404:
        return "there is no such route; correct health.path"
    if status >= 500:
        return "the app fails; its log says why (deploy logs)"
    return ""


def check_health(work: Work) -> str:
    """The step `health`: ask until the instance answers 2xx. Returns a line to show.

    Raises HostError with the last lines of the unit: at once when it dies, else after deploy_timeout.
    """
    check = work.settings["health"]
    domain, number = app_config.domains(work.app, work.settings)[0], records.next_port(work.app, work.release)
    begun = work.host.clock()
    while True:
        answer = work.host.get(number, domain, check["path"], check["timeout"])
        unit = work.host.systemd.show(work.app.unit(work.release))[0]
        why = problem(work.host, work.app.unit(work.release), number, domain, check["path"], answer)
        if not why and unit.state == "active":
            return f"GET {check['path']} answered {answer.status}"
        waited = work.host.clock() - begun
        if _died(work, unit, waited):
            raise _death(work, unit)
        if waited >= check["deploy_timeout"]:
            raise _unhealthy(work, why or f"its unit is {unit.state}", check["deploy_timeout"])
        work.host.sleep(min(check["interval"], 1.0) if answer.status else POLL)


def _died(work: Work, unit: Unit, waited: float) -> bool:
    # while the start job is queued, systemd still shows the state from before
    never = waited > JOB_QUEUED and not unit.queued and unit.state in ("inactive", "deactivating", "unknown")
    ended = unit.state == "failed" or unit.sub == "auto-restart" or never
    return ended or unit.restarts > work.journal.content.get("baseline", 0)


def _death(work: Work, unit: Unit) -> HostError:
    lines = keep_boot_log(work)
    shown = "\n".join(lines.splitlines()[-LAST_LINES:])
    what = f"the new instance died while it started ({unit.result or unit.sub}); its last lines:\n{shown}"
    return HostError(what, work.app.unit(work.release), f"deploy logs --release {work.release}")


def _unhealthy(work: Work, why: str, waited: float) -> HostError:
    keep_boot_log(work)
    what = f"the new instance was not healthy within {waited:g} s; {why}"
    return HostError(what, work.app.unit(work.release), f"deploy logs --release {work.release}")


def keep_boot_log(work: Work) -> str:
    """Save the instance's last lines beside its record, with secrets redacted. Returns them."""
    text = work.host.systemd.journal(work.app.unit(work.release), LAST_LINES)
    text = redact(text, work.app, work.release)
    files.write_atomic(work.app.record(work.release) / "boot.log", text.encode(errors="replace"), durable=False)
    return text
