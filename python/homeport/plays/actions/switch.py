"""The action switch: starts a transition on the host and follows it. It continues there if this process ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from homeport.core.errors import HomeportError
from homeport.core.performer import machine_name, performer_name, performer_options
from homeport.plays.action import Action
from homeport.release import git
from homeport.remote.hostctl import Hostctl, follow
from homeport.screen import events
from hostctl.common.documents import Json

# names a file, readable by this user only, into which `deploy` writes the values of the secrets
SECRETS_VARIABLE = "HOMEPORT_SECRETS"


DOCUMENTATION = """
module: switch
short_description: Start a transition and follow it
description:
  - Starts a push, an environment push, a rollback or a restore on the host, and shows its steps until it is decided.
  - The host finishes or undoes the transition even if this task ends early.
  - O(to), O(force), O(with_data), O(point) and O(at) become options of hostctl; an empty or false one is left out.
options:
  verb:
    description: The transition.
    type: str
    choices: [push, env, rollback, restore]
    required: true
  digest:
    description: The SHA-256 of the release's tar. For push.
    type: str
  live:
    description: The live release, as M(homeport.deploy.inspect) returns it. For env.
    type: dict
  to:
    description: The release to go back to; empty for the previous one. For rollback.
    type: str
  force:
    description: Whether to go back although the database has newer migrations. For rollback.
    type: bool
  with_data:
    description: Whether to restore the data of before the last push as well. For rollback.
    type: bool
  point:
    description: The restore point; empty for none. For restore and rollback.
    type: str
  at:
    description: The time to restore, in seconds since 1970; empty for none. For restore.
    type: str
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.deploy_user
  - homeport.deploy.action.inventory
  - homeport.deploy.action.secrets
  - homeport.deploy.action.git
"""

EXAMPLES = """
- name: Switch to the new release
  homeport.deploy.switch:
    verb: push
    digest: "{{ homeport_built.digest }}"
    git: "{{ homeport_built.git }}"
  register: homeport_switched
"""

RETURN = """
result:
  description: C(live), or C(unchanged) where the release is live already with the same settings.
  returned: success
  type: str
release:
  description: The release that is live now.
  returned: success
  type: str
previous:
  description: The release that was live before.
  returned: when something changed
  type: str
steps:
  description: The steps of the transition and their times.
  returned: success
  type: list
  elements: dict
"""


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
            begun = host.call(*words, *performer_options())
        if begun.get("unchanged"):
            return {"result": "unchanged", "release": begun["release"], "steps": []}
        return conclude(host, begun["transition"])


def _release_of(args: Json, where: str) -> tuple[str, Json | None]:
    """The digest and commit of the release; for `env` those of the live release. Raises HomeportError."""
    return live_release(args["live"], where) if args["verb"] == "env" else (args["digest"], args["git"] or None)


def live_release(live: Json | None, where: str) -> tuple[str, Json | None]:
    """The digest and commit of the release that is live. Raises HomeportError when there is none."""
    if not live:
        raise HomeportError("there is no live release to give another environment", where, "deploy push")
    return live["digest"], live["git"]


def options_of(args: Json) -> list[str]:
    """hostctl's options for a task's arguments; empty and false ones are omitted."""
    # 0.0 is a time, although it equals False
    set_args = {key: value for key, value in args.items() if key != "verb" and value is not False and value != ""}
    options = {f"--{key.replace('_', '-')}": value for key, value in set_args.items()}
    return [word for key, value in options.items() for word in ([key] if value is True else [key, str(value)])]


def conclude(host: Hostctl, transition: str) -> Json:
    """Follow the transition and return its result. Raises HomeportError with its error and exit code."""
    events.emit({"kind": "transition", "transition": transition})
    result = follow(host, transition, lambda event: events.emit({"kind": "host", **event}))
    if error := result.get("error"):
        raise HomeportError(error["what"], error["where"] or host.where, error["fix"], result["code"])
    return {**result, "changed": True}


def push_spec(task_vars: Json, digest: str, described: Json | None, now: datetime) -> Json:
    """The spec by which hostctl makes the release live, without the secrets."""
    return {
        "release": git.release_id(now, described, digest),
        "digest": digest,
        "git": described,
        "who": performer_name(),
        "from": machine_name(),
        "settings": task_vars["homeport_settings"],
        "env": task_vars["homeport_env"],
    }


def read_secrets(task_vars: Json) -> dict[str, str | None]:
    """The values of env.secret; None keeps the value that the host has."""
    return secret_values(task_vars["homeport_env_secret"])


def secret_values(names: Iterable[str]) -> dict[str, str | None]:
    """The values of secrets, from the file of `deploy`, else from the environment; None for a name without a value."""
    path = os.environ.get(SECRETS_VARIABLE)
    values = json.loads(Path(path).read_text()) if path else os.environ
    return {name: values.get(name) for name in names}
