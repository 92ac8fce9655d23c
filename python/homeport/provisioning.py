"""Provisioning as a person sees it, and the pinning of a host's key before anything is done there."""

from __future__ import annotations

from homeport import preflight
from homeport.errors import ExitCode, HomeportError
from homeport.playbook import Played, play
from homeport.session import Session
from homeport.ui import Screen


def provision(session: Session, screen: Screen) -> int:
    """Converge the host through the roles; return how many tasks changed something."""
    for warning in preflight.names(session.loaded):
        screen.say(f"warning: {warning}")
    done = 0

    def show(event: dict[str, str]) -> None:
        nonlocal done
        if event["kind"] == "task":
            done += 1
            screen.note(f"{event['role']}: {event['task']}" if event["role"] else event["task"])

    screen.begin("provision")
    played = play("provision", session.host_vars, show)
    screen.end("provision", _says(played, done), ok=not (played.error or played.interrupted))
    if played.interrupted:
        what = "interrupted; what was done stays, and the next run does the rest"
        raise HomeportError(what, session.target.host, "deploy provision", ExitCode.INTERRUPTED)
    if played.error:
        raise played.error
    return played.changed


def _says(played: Played, done: int) -> str:
    return f"{done} tasks, {played.changed or 'nothing'} changed"
