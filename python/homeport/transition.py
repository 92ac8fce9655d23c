"""A push or a rollback as a person sees it: the playbook's steps on the screen, one line or one document at the end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from homeport import hooks, provisioning, remote
from homeport.config import Redactor, secrets
from homeport.errors import ExitCode, HomeportError
from homeport.playbook import Played, play
from homeport.session import Session
from homeport.sizes import size
from homeport.stamp import NeedsProvisionError
from homeport.ui import PushScreen, Screen

Json = dict[str, Any]


def push(session: Session, artifact: Path | None, lock_wait: float, *, as_json: bool) -> None:
    """The whole of `deploy push` after its arguments. Raises HomeportError with the promised exit code."""
    extra = {"homeport_artifact": str(artifact.resolve()) if artifact else "", "homeport_lock_wait": lock_wait}
    _transition(session, "push", extra, as_json=as_json)


def rollback(session: Session, release: str, lock_wait: float, *, as_json: bool) -> None:
    """The whole of `deploy rollback` after its arguments."""
    _transition(session, "rollback", {"homeport_to": release, "homeport_lock_wait": lock_wait}, as_json=as_json)


def _transition(session: Session, verb: str, extra: Json, *, as_json: bool) -> None:
    began = time.monotonic()
    values = secrets.collect(session.loaded.config, os.environ) if verb == "push" else {}
    # what is not in the environment cannot be inherited, nor written down by ansible-runner
    secrets.scrub(session.loaded.config, os.environ)
    shown = PushScreen(_screen(session), Redactor(values))
    shown.screen.say(_headline(session, verb))
    with hooks.around(session.loaded, verb):
        played = _play(session, verb, shown, values, extra)
    result = _result(verb, played, shown, time.monotonic() - began)
    print(json.dumps(result)) if as_json else shown.screen.say(_last_line(verb, result))


def _screen(session: Session) -> Screen:
    return Screen(quiet=session.options.quiet, verbose=session.options.verbose)


def _headline(session: Session, verb: str) -> str:
    place = f" ({session.loaded.destination})" if session.loaded.destination else ""
    return f"{verb} {session.app}{place} on {session.target.host}"


def _play(
    session: Session, verb: str, shown: PushScreen, values: Mapping[str, SecretStr | None], extra: Json
) -> Played:
    revealed = _revealed(values)
    played = play(verb, session.host_vars, shown, secrets=revealed, extra=extra)
    if played.error and played.error.what == NeedsProvisionError.WHAT:
        provisioning.provision(session, shown.screen)
        played = play(verb, session.host_vars, shown, secrets=revealed, extra=extra)
    if played.interrupted:
        raise _interrupted(shown)
    if played.error:
        raise _redacted(played.error, shown)
    return played


def _redacted(error: HomeportError, shown: PushScreen) -> HomeportError:
    return HomeportError(shown.redact(error.what), shown.redact(error.where), shown.redact(error.fix), error.code)


def _revealed(values: Mapping[str, SecretStr | None]) -> dict[str, str | None]:
    return {name: secrets.reveal(value) for name, value in values.items()}


def _interrupted(shown: PushScreen) -> HomeportError:
    if shown.transition:
        what = "interrupted here, but the host finishes or undoes what it began"
        return HomeportError(what, "", "deploy attach", ExitCode.INTERRUPTED)
    return HomeportError("interrupted; nothing changed", "", "", ExitCode.INTERRUPTED)


def _result(verb: str, played: Played, shown: PushScreen, seconds: float) -> Json:
    """The document that `--json` prints."""
    switched = played.results["Switch"]
    return {
        "result": switched["result"],
        "release": switched["release"],
        "previous": switched.get("previous"),
        "steps": shown.steps,
        "bytes_sent": played.results.get("Send what differs", {}).get("bytes_sent", 0),
        "seconds": round(seconds, 3),
        "url": played.results.get("Verify from outside", {}).get("url"),
    }


def _last_line(verb: str, result: Json) -> str:
    if result["result"] == "unchanged":
        return f"{result['release']} is live already, with the same settings: nothing changed"
    sent = f", {size(result['bytes_sent'])} sent" if verb == "push" else ""
    return f"{result['release']} is live at {result['url']} after {result['seconds']:.1f} s{sent}"


def plan(session: Session, artifact: Path | None, *, as_json: bool) -> None:
    """Show what a push would do: the release is built and compared, nothing is sent and nothing changes."""
    values = secrets.collect(session.loaded.config, os.environ)
    secrets.scrub(session.loaded.config, os.environ)
    shown = PushScreen(_screen(session), Redactor(values))
    extra = {"homeport_artifact": str(artifact.resolve()) if artifact else ""}
    played = play("plan", session.host_vars, shown, secrets=secrets.fingerprints(values), extra=extra)
    if played.error:
        raise _redacted(played.error, shown)
    if played.interrupted:
        raise _interrupted(shown)
    planned = played.results["Compare with what is live"]["plan"]
    print(json.dumps(planned) if as_json else "\n".join(plan_lines(planned)))


def plan_lines(planned: Json) -> list[str]:
    """The plan as a person reads it."""
    if planned["unchanged"]:
        return [f"{planned['previous']} is live already, with the same settings: a push would change nothing"]
    pending = planned["pending"]
    return [
        f"release   {planned['release']}, in place of {planned['previous'] or 'nothing'}",
        f"upload    {size(planned['bytes'])}",
        "migrate   " + ("the release cannot tell" if pending is None else ", ".join(pending) or "nothing pending"),
        "settings  " + (", ".join(planned["changed_keys"]) or "none changed"),
        "switch    "
        + ("the old instance stops before the new one starts" if planned["restart"] else "without a pause"),
    ]


def attach(session: Session, *, as_json: bool) -> None:
    """Follow the running transition, or show the last one. Raises HomeportError with the exit code it ended with."""
    host = session.hostctl
    shown = PushScreen(_screen(session), Redactor({}))
    newest = host.call("follow", "--after", "0", "--wait", "0")
    shown.screen.say(f"transition {newest['transition']} of {session.app} on {session.target.host}")
    result = remote.follow(host, newest["transition"], lambda event: shown({"kind": "host", **event}))
    if as_json:
        print(json.dumps(result))
    if error := result.get("error"):
        raise HomeportError(error["what"], error["where"] or host.where, error["fix"], result["code"])
    print(f"{result['release']} is {result['result']}", file=sys.stderr)
