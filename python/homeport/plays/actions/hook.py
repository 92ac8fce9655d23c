"""The action hook: runs the hook pre-migrate before the host switches to a release with new migrations."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from homeport.plays import hooks
from homeport.plays.action import Action
from homeport.plays.actions.switch import push_spec
from homeport.screen import events
from hostctl.common.documents import Json

SHOWN_LINES = 20


DOCUMENTATION = """
module: hook
short_description: Run the pre-migrate hook
description:
  - Runs the project's program C(pre-migrate) on the controller if the release has migrations that are new there.
  - Fails when the program fails, before the host is asked to switch.
options:
  digest:
    description: The SHA-256 of the release's tar.
    type: str
    required: true
  git:
    description: The commit that the release was built from, as M(homeport.deploy.build) returns it; empty for none.
    type: dict
notes:
  - Reads the variables that the inventory plugin C(homeport) makes from deploy.yml.
  - Runs on the controller. Calls hostctl over the play's connection as the deploy user, without C(become).
author: Homeport
"""

EXAMPLES = """
- name: Run pre-migrate if the release has new migrations
  homeport.deploy.hook:
    digest: "{{ homeport_built.digest }}"
    git: "{{ homeport_built.git }}"
"""

RETURN = """
pending:
  description: The names of the new migrations; empty where there is no such hook or no migration command.
  returned: success
  type: list
  elements: str
step:
  description: The step's name as C(deploy) shows it; empty for an action without a step of its own.
  returned: success
  type: str
ms:
  description: How long the action took, in milliseconds.
  returned: success
  type: int
"""


class ActionModule(Action):
    """Returns {"pending": the new migrations}; empty without a hook or without a migration command."""

    def act(self, args: Json, task_vars: Json) -> Json:
        program = hooks.find(Path(task_vars["homeport_hooks"]), hooks.BEFORE_MIGRATIONS)
        if program is None or task_vars["homeport_settings"]["commands"]["migrate"] is None:
            return {"pending": []}
        spec = push_spec(task_vars, args["digest"], args["git"] or None, datetime.now(UTC))
        planned = self.hostctl(task_vars).send("plan", {**spec, "secrets": {}})
        new = pending(planned["brings"], planned["migrations"])
        if new:
            _perform(
                program,
                {**_variables(task_vars), "HOMEPORT_MIGRATIONS": " ".join(new)},
                Path(task_vars["homeport_root"]),
            )
        return {"pending": new}


def _perform(program: Path, variables: Mapping[str, str], root: Path) -> None:
    events.step(program.name, "begin")
    status, said = output(program, root, environment(os.environ, variables))
    if status != 0:
        events.step(program.name, "failed")
        raise hooks.failed(program, status, said)
    events.step(program.name, "ok", variables["HOMEPORT_MIGRATIONS"])


def pending(brings: list[str], applied: list[str]) -> list[str]:
    """The names of the migrations that the live release does not have, sorted, such as 20261121120000_add_users."""
    return sorted(PurePosixPath(file).stem for file in set(brings) - set(applied))


def environment(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """A hook's environment: that of the user, without the internal variables of Homeport and Ansible."""
    own = {name: value for name, value in environ.items() if not name.startswith(("ANSIBLE_", "HOMEPORT_"))}
    return {**own, **variables}


def output(program: Path, root: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run the program and report each line of its output; returns its exit status and the last lines."""
    lines: list[str] = []
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        [str(program)],
        cwd=root,
        env=environ,
        stdin=none,
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        for line in running.stdout or ():
            events.line(line.rstrip())
            lines = [*lines[1 - SHOWN_LINES :], line.rstrip()]
    return running.returncode, "\n".join(lines)


def _variables(task_vars: Json) -> dict[str, str]:
    domain, host = task_vars["homeport_domains"][0]["name"], task_vars["ansible_host"]
    return hooks.told(task_vars["homeport_app"], task_vars["homeport_destination"], domain, host, "push")
