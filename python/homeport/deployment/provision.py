"""Provisions the host by the playbook, with checks before it and progress on the screen."""

from __future__ import annotations

from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.deployment import notify, preflight
from homeport.plays import custom_certificates
from homeport.plays.runner import PlayResult, play
from homeport.remote.session import Session
from homeport.screen.screen import Screen
from homeport.secrets import resolve


def provision(session: Session, screen: Screen, *, allow_empty: bool = False) -> int:
    """Converge the host by the roles; return how many tasks changed something. Raises HomeportError.

    `allow_empty`: an empty database may be created if S3 cannot be asked for a backup.
    """
    notify.check(session.loaded, session.secrets)
    for warning in [*preflight.domains_and_ports(session.loaded), *_bucket_warnings(session, allow_empty)]:
        screen.say(f"warning: {warning}")
    custom_certificates.check(session)
    done = 0

    def show(event: dict[str, str]) -> None:
        nonlocal done
        if event["kind"] == "task":
            done += 1
            screen.note(f"{event['role']}: {event['task']}" if event["role"] else event["task"])

    screen.begin("provision")
    revealed = {name: resolve.reveal(value) for name, value in session.secrets.items()}
    played = play("provision", session.host_vars, show, secrets=revealed, extra={"homeport_allow_empty": allow_empty})
    screen.end("provision", _summary(played, done), ok=not (played.error or played.interrupted))
    if played.interrupted:
        what = "interrupted; completed tasks stay, and the next run does the rest"
        raise HomeportError(what, session.target.host, "deploy provision", ExitCode.INTERRUPTED)
    if played.error:
        raise redact.redactor().error(played.error)
    return played.changed


def _bucket_warnings(session: Session, allow_empty: bool) -> list[str]:
    try:
        return preflight.backup(session.loaded, session.secrets)
    except HomeportError as error:
        if not allow_empty:
            raise
        return [error.what]


def _summary(played: PlayResult, done: int) -> str:
    return f"{done} tasks, {played.changed or 'nothing'} changed"
