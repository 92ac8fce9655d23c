"""Runs transitions (push, env push, rollback, restore) with progress on the screen, and prints the result."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from homeport.config import secret_names
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.humanize import duration, size
from homeport.core.provision_stamp import NeedsProvisionError
from homeport.core.timestamps import with_iso_times
from homeport.deployment import notify, preflight, provision
from homeport.plays import hooks
from homeport.plays.actions.switch import live_release, push_spec
from homeport.plays.runner import PlayResult, play
from homeport.remote import hostctl
from homeport.remote.session import Session
from homeport.screen import env_changes
from homeport.screen.confirm import confirm
from homeport.screen.screen import PushScreen, Screen
from homeport.secrets import resolve
from hostctl.common.documents import Json
from hostctl.common.timestamps import iso


def push(session: Session, artifact: Path | None, lock_wait: float, *, as_json: bool) -> None:
    """Run `deploy push` with checked arguments. Raises HomeportError with the exit code of the failure."""
    _warn_of_missing_variables(session, certain=artifact is None)
    extra = {"homeport_artifact": str(artifact.resolve()) if artifact else "", "homeport_lock_wait": lock_wait}
    _transition(session, "push", extra, as_json=as_json)


def push_environment(session: Session, lock_wait: float, *, as_json: bool) -> None:
    """Run `deploy env push` with checked arguments. Raises HomeportError with the exit code of the failure."""
    _warn_of_missing_variables(session, certain=False)
    _transition(session, "env", {"homeport_lock_wait": lock_wait}, as_json=as_json)


def _warn_of_missing_variables(session: Session, *, certain: bool) -> None:
    """`certain`: the release is built from this source, so that a missing required variable is refused."""
    for warning in preflight.environment(session.loaded, certain=certain):
        _screen(session).say(warning)


def rollback(session: Session, release: str, lock_wait: float, *, force: bool, as_json: bool) -> None:
    """Run `deploy rollback` with checked arguments."""
    extra = {"homeport_to": release, "homeport_force": force, "homeport_lock_wait": lock_wait}
    _transition(session, "rollback", extra, as_json=as_json)


def rollback_with_data(session: Session, release: str, lock_wait: float, *, yes: bool, as_json: bool) -> None:
    """Run `deploy rollback --with-data`: shows which writes are lost, and asks for confirmation."""
    to = ["--to", release] if release else []
    planned = session.hostctl.call("rollback", "--with-data", "--plan", *to)
    back = f"{session.app} goes back to {planned['release']}, with the data of {iso(planned['gives_up']['since'])}"
    _confirm(session, [back, *loss_lines(planned["gives_up"])], yes)
    extra = {"homeport_with_data": True, "homeport_to": planned["release"], "homeport_point": planned["point"]}
    _transition(session, "rollback", {**extra, "homeport_lock_wait": lock_wait}, as_json=as_json)


def restore(session: Session, at: float | None, point: str, lock_wait: float, *, yes: bool, as_json: bool) -> None:
    """Run `deploy restore` in place with checked arguments: shows which writes are lost, and asks for confirmation."""
    planned = session.hostctl.call("restore", "--plan", *target_options(at, point))
    back = f"{session.app} goes back to the data of {iso(planned['at'])}"
    _confirm(session, [back, *loss_lines(planned["gives_up"])], yes)
    extra = {"homeport_at": "" if at is None else at, "homeport_point": point, "homeport_lock_wait": lock_wait}
    _transition(session, "restore", extra, as_json=as_json)


def target_options(at: float | None, point: str) -> list[str]:
    """hostctl's options for a time or a restore point."""
    return [*(["--at", repr(at)] if at is not None else []), *(["--point", point] if point else [])]


def _confirm(session: Session, lines: list[str], yes: bool) -> None:
    """Show the lines, and ask a person to confirm. Raises HomeportError (usage) without a terminal."""
    screen = _screen(session)
    for line in lines:
        screen.say(line)
    hold = session.host_vars["homeport_hold_seconds"]
    confirm(f"The replaced data is kept on the host; requests wait at the edge for at most {hold:g} s.", yes)


def loss_lines(lost: Json) -> list[str]:
    """The writes that a restore loses, as text: their time span, and the tables whose number of rows changes."""
    changed = [
        f"  {database}: {table} has {_rows(now)}, and had {_rows(then)}"
        for database, tables in lost["tables"].items()
        for table, (now, then) in tables.items()
        if now != then
    ]
    return [f"  loses all writes of the last {duration(lost['seconds'])}, since {iso(lost['since'])}", *changed]


def _rows(count: int | None) -> str:
    return "none" if count is None else f"{count:,} rows"


def _transition(session: Session, verb: str, extra: Json, *, as_json: bool) -> None:
    began = time.monotonic()
    values = session.secrets if verb in ("push", "env") else {}
    notifier = notify.FailureNotifier(session, verb)
    # so that no child process inherits a secret, and ansible-runner, which stores the environment, has none
    secret_names.scrub(session.loaded.config, os.environ)
    shown = PushScreen(_screen(session), redact.redactor())
    shown.screen.say(_headline(session, verb))
    with notifier.watch(shown), hooks.run_around(session.loaded, verb) as post_hook_variables:
        played = _play(session, verb, shown, values, extra)
        result = _result(verb, played, shown, time.monotonic() - began)
        post_hook_variables |= hooks.result_variables(result)
    print(json.dumps(result)) if as_json else shown.screen.say(_last_line(verb, result))


def _screen(session: Session) -> Screen:
    return Screen(quiet=session.options.quiet, verbose=session.options.verbose)


def _headline(session: Session, verb: str) -> str:
    place = f" ({session.loaded.destination})" if session.loaded.destination else ""
    return f"{'env push' if verb == 'env' else verb} {session.app}{place} on {session.target.host}"


def _play(
    session: Session, verb: str, shown: PushScreen, values: Mapping[str, SecretStr | None], extra: Json
) -> PlayResult:
    plain = _plain_values(values)
    played = play(verb, session.host_vars, shown, secrets=plain, extra=extra)
    if played.error and played.error.reason == NeedsProvisionError.reason:
        provision.provision(session, shown.screen)
        played = play(verb, session.host_vars, shown, secrets=plain, extra=extra)
    if played.interrupted:
        raise _interruption(shown)
    if played.error:
        raise shown.redact.error(played.error)
    return played


def _plain_values(values: Mapping[str, SecretStr | None]) -> dict[str, str | None]:
    return {name: resolve.reveal(value) for name, value in values.items()}


def _interruption(shown: PushScreen) -> HomeportError:
    if shown.transition:
        what = "interrupted here, but the host finishes or undoes what it began"
        return HomeportError(what, "", "deploy attach", ExitCode.INTERRUPTED)
    return HomeportError("interrupted; nothing changed", "", "", ExitCode.INTERRUPTED)


def _result(verb: str, played: PlayResult, shown: PushScreen, seconds: float) -> Json:
    """The document that `--json` prints."""
    switched = played.results["switch"]
    return {
        "result": switched["result"],
        "release": switched["release"],
        "previous": switched.get("previous"),
        "steps": shown.steps,
        "bytes_sent": played.results.get("upload", {}).get("bytes_sent", 0),
        "seconds": round(seconds, 3),
        "url": played.results.get("verify", {}).get("url"),
        "kept": with_iso_times(switched.get("kept")),
        "env_changes": switched.get("env_changes"),
    }


def _last_line(verb: str, result: Json) -> str:
    if result["result"] == "unchanged":
        return f"{result['release']} is live already, with the same settings: nothing changed"
    more = f", {size(result['bytes_sent'])} sent" if verb == "push" else ""
    if changes := env_changes.summary(result["env_changes"]):
        more += f", env: {changes}"
    if kept := result["kept"]:
        more = f", with the data of {kept['since']}; the replaced data is kept in {kept['aside']} on the host"
    return f"{result['release']} is live at {result['url']} after {result['seconds']:.1f} s{more}"


def plan(session: Session, artifact: Path | None, *, as_json: bool) -> None:
    """Show what a push would do: the release is built and compared, but not uploaded, and nothing changes."""
    _warn_of_missing_variables(session, certain=artifact is None)
    values = session.secrets
    shown = PushScreen(_screen(session), redact.redactor())
    extra = {"homeport_artifact": str(artifact.resolve()) if artifact else ""}
    played = play("plan", session.host_vars, shown, secrets=resolve.fingerprints(values), extra=extra)
    if played.error:
        raise shown.redact.error(played.error)
    if played.interrupted:
        raise _interruption(shown)
    planned = played.results["plan"]["plan"]
    print(json.dumps(planned) if as_json else "\n".join(plan_lines(planned)))


def plan_lines(planned: Json) -> list[str]:
    """The plan of a push, as text."""
    if planned["unchanged"]:
        return [f"{planned['previous']} is live already, with the same settings: a push would change nothing"]
    pending = planned["pending"]
    return [
        f"release   {planned['release']}, in place of {planned['previous'] or 'nothing'}",
        f"upload    {size(planned['bytes'])}",
        "migrate   " + ("the release cannot tell" if pending is None else ", ".join(pending) or "nothing pending"),
        "settings  " + (", ".join(planned["changed_keys"]) or "none changed"),
        f"switch    {_switch(planned)}",
    ]


def plan_environment(session: Session, *, as_json: bool) -> None:
    """Show which variables and settings `deploy env push` would change, and change nothing. Raises HomeportError."""
    _warn_of_missing_variables(session, certain=False)
    host, known = session.hostctl, session.host_vars
    facts = host.call("inspect")
    if facts["stamp"] != known["homeport_stamp"]:
        raise NeedsProvisionError(host.where)
    spec = push_spec(known, *live_release(facts["live"], host.where), datetime.now(UTC))
    names = resolve.fingerprints(session.secrets)
    own = {name: names.get(name) for name in known["homeport_env_secret"]}
    planned = host.send("plan", {**spec, "secrets": own})
    print(json.dumps(planned) if as_json else "\n".join(environment_lines(planned)))


def environment_lines(planned: Json) -> list[str]:
    """The plan of `deploy env push`, as text."""
    if planned["unchanged"]:
        return [f"{planned['previous']} is live already, with the same settings: env push would change nothing"]
    return [
        f"release   {planned['release']}, the same code as {planned['previous']}",
        "settings  " + ", ".join(planned["changed_keys"]),
        f"switch    {_switch(planned)}",
    ]


def _switch(planned: Json) -> str:
    return "the old instance stops before the new one starts" if planned["restart"] else "without a pause"


def attach(session: Session, *, as_json: bool) -> None:
    """Follow the running transition, or show the last one. Raises HomeportError with the exit code it ended with."""
    newest = session.hostctl.call("follow", "--after", "0", "--wait", "0")
    follow(session, newest["transition"], as_json=as_json)


def follow(session: Session, transition: str, *, as_json: bool) -> None:
    """Follow a transition to its end. Raises HomeportError with the exit code it ended with."""
    host = session.hostctl
    shown = PushScreen(_screen(session), redact.redactor())
    shown.screen.say(f"transition {transition} of {session.app} on {session.target.host}")
    result = hostctl.follow(host, transition, lambda event: shown({"kind": "host", **event}))
    if as_json:
        print(json.dumps(result))
    if error := result.get("error"):
        raise HomeportError(error["what"], error["where"] or host.where, error["fix"], result["code"])
    print(f"{result['release']} is {result['result']}", file=sys.stderr)
