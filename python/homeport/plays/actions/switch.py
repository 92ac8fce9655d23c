"""Start a transition on the host and follow it to its decision. It goes on there even if this process does not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from homeport.core.errors import HomeportError
from homeport.core.performer import here, who
from homeport.plays.actions.action import Action
from homeport.release import git
from homeport.remote.hostctl import Hostctl, follow
from homeport.screen import events

# a file that only this user may read, where the wrapper leaves the values of env.secret
SECRETS_VARIABLE = "HOMEPORT_SECRETS"

Json = dict[str, Any]


class ActionModule(Action):
    """Returns the transition's result: result, release, previous, steps."""

    def act(self, args: Json, task_vars: Json) -> Json:
        host = self.hostctl(task_vars)
        wait = float(task_vars.get("homeport_lock_wait", 0))
        if args["verb"] in ("push", "env"):
            spec = push_spec(task_vars, *_release_of(args, host.where), datetime.now(UTC))
            begun = host.send(args["verb"], {**spec, "secrets": read_secrets(task_vars), "lock_wait": wait})
        else:
            words = [args["verb"], *options_of(args), "--lock-wait", str(wait)]
            begun = host.call(*words, "--who", who(), "--from", here())
        if begun.get("unchanged"):
            return {"result": "unchanged", "release": begun["release"], "steps": []}
        return conclude(host, begun["transition"])


def _release_of(args: Json, where: str) -> tuple[str, Json | None]:
    """The digest and commit of what goes live: of an environment what is live already. Raises HomeportError."""
    return live_release(args["live"], where) if args["verb"] == "env" else (args["digest"], args["git"] or None)


def live_release(live: Json | None, where: str) -> tuple[str, Json | None]:
    """The digest and commit of the release that is live. Raises HomeportError when there is none."""
    if not live:
        raise HomeportError("nothing is live that could have another environment", where, "deploy push")
    return live["digest"], live["git"]


def options_of(args: Json) -> list[str]:
    """hostctl's options for a task's arguments: those that are empty or false are left out."""
    # the time 0.0 equals False, and is one all the same
    given = {key: value for key, value in args.items() if key != "verb" and value is not False and value != ""}
    words = {f"--{key.replace('_', '-')}": value for key, value in given.items()}
    return [word for key, value in words.items() for word in ([key] if value is True else [key, str(value)])]


def conclude(host: Hostctl, transition: str) -> Json:
    """Follow the transition; return its result, or raise its error with the exit code it gave."""
    events.emit({"kind": "transition", "transition": transition})
    result = follow(host, transition, lambda event: events.emit({"kind": "host", **event}))
    if error := result.get("error"):
        raise HomeportError(error["what"], error["where"] or host.where, error["fix"], result["code"])
    return {**result, "changed": True}


def push_spec(task_vars: Json, digest: str, described: Json | None, now: datetime) -> Json:
    """What hostctl must know to make the release live, secrets apart."""
    return {
        "release": git.release_id(now, described, digest),
        "digest": digest,
        "git": described,
        "who": who(),
        "from": here(),
        "settings": task_vars["homeport_settings"],
        "env": task_vars["homeport_env"],
    }


def read_secrets(task_vars: Json) -> dict[str, str | None]:
    """The values of env.secret; None keeps what the host has."""
    return values_of(task_vars["homeport_env_secret"])


def values_of(names: Iterable[str]) -> dict[str, str | None]:
    """The values of secrets: from the wrapper's file, else from the environment; None for one that is in neither."""
    path = os.environ.get(SECRETS_VARIABLE)
    given = json.loads(Path(path).read_text()) if path else os.environ
    return {name: given.get(name) for name in names}
