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
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.deploy_user
  - homeport.deploy.action.inventory
  - homeport.deploy.action.digest
  - homeport.deploy.action.git
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
"""


class ActionModule(Action):
    """Returns {"pending": the new migrations}; empty without a hook or without a migration command."""

    def act(self, args: Json, task_vars: Json) -> Json:
        program = hooks.find(Path(task_vars["homeport_hooks"]), hooks.BEFORE_MIGRATIONS)
        if program is None or task_vars["homeport_settings"]["commands"]["migrate"] is None:
            return {"pending": []}
        spec = push_spec(task_vars, args["digest"], args["git"] or None, datetime.now(UTC))
        planned = self.hostctl(task_vars).send("plan", {**spec, "secrets": {}})
        new = new_migrations(planned["brings"], planned["migrations"])
        if new:
            _run_hook(
                program,
                {**_variables(task_vars), "HOMEPORT_MIGRATIONS": " ".join(new)},
                Path(task_vars["homeport_root"]),
            )
        return {"pending": new}


def _run_hook(program: Path, variables: Mapping[str, str], root: Path) -> None:
    events.step(program.name, "begin")
    status, last_lines = run_and_report(program, root, environment(os.environ, variables))
    if status != 0:
        events.step(program.name, "failed")
        raise hooks.hook_error(program, status, last_lines)
    events.step(program.name, "ok", variables["HOMEPORT_MIGRATIONS"])


def new_migrations(brings: list[str], applied: list[str]) -> list[str]:
    """The names of the migrations that the live release does not have, sorted, such as 20261121120000_add_users."""
    return sorted(PurePosixPath(file).stem for file in set(brings) - set(applied))


def environment(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """A hook's environment: that of the user, without the internal variables of Homeport and Ansible."""
    own = {name: value for name, value in environ.items() if not name.startswith(("ANSIBLE_", "HOMEPORT_"))}
    return {**own, **variables}


def run_and_report(program: Path, root: Path, environ: Mapping[str, str]) -> tuple[int, str]:
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
    return hooks.hook_variables(task_vars["homeport_app"], task_vars["homeport_destination"], domain, host, "push")
