"""Health checks of an instance, and what their answers mean."""

from __future__ import annotations

from hostctl.common.documents import HealthCheck
from hostctl.common.errors import HostError
from hostctl.common.http import Answer
from hostctl.host.host import Host

POLL = 0.1  # seconds between two checks


def wait_until_healthy(host: Host, unit: str, port: int, domain: str, check: HealthCheck) -> None:
    """Return when an instance that was started again is healthy.

    Raises HostError when it is not within its deploy_timeout.
    """
    deadline = host.clock() + check["deploy_timeout"]
    while not (answer := host.get(port, domain, check["path"], check["timeout"])).good:
        if host.clock() >= deadline:
            why = explain(answer, domain, check["path"])
            raise HostError(f"{unit} is not healthy again: {why}", unit, "deploy logs")
        host.sleep(POLL)


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
