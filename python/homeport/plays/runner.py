"""Runs a playbook by ansible-runner; no other module calls it.

ansible-runner writes the whole environment and all extra variables into its artifacts, so neither may hold a secret:
variables are in the resolved inventory, values of secrets in a file of their own that is deleted after the run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homeport.core import private_directory
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.packaged_files import collection, content
from homeport.screen import events
from hostctl.common.documents import Json

# seconds within which an interrupt is noticed; the default is five
NOTICE_SECONDS = 1
# the prefix of the names of Homeport's actions and roles
COLLECTION = "homeport.deploy."


@dataclass
class PlayResult:
    """The outcome of a playbook's run: the results of Homeport's own actions by the action, how many tasks changed,
    the first error.
    """

    results: dict[str, Json] = field(default_factory=dict)
    changed: int = 0
    error: HomeportError | None = None
    interrupted: bool = False


def play(
    name: str,
    host_vars: Json,
    on_event: Callable[[Json], None],
    *,
    secrets: Mapping[str, str | None] | None = None,
    extra: Json | None = None,
) -> PlayResult:
    """Run playbooks/<name>.yml against the one host that `host_vars` describe.

    A failure of the playbook is in the result, not raised. A failure without an error of Homeport's plugins gets the
    task's name and Ansible's message.
    """
    with private_directory.directory() as private:
        private_directory.write(private / "resolved.json", json.dumps({**host_vars, **(extra or {})}))
        private_directory.write(private / "secrets.json", json.dumps(dict(secrets or {})))
        _prepare_environment(private)
        played = PlayResult()
        with events.listen(private / "events", on_event):
            _run(name, private, played, on_event)
        return played


def _prepare_environment(private: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        del os.environ[name]
    os.environ.update(
        {
            "ANSIBLE_CONFIG": str(content() / "ansible.cfg"),
            # under pipx and uv ansible-playbook is installed beside this interpreter, but not on PATH
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            events.VARIABLE: str(private / "events"),
            "HOMEPORT_RESOLVED": str(private / "resolved.json"),
            "HOMEPORT_SECRETS": str(private / "secrets.json"),
        }
    )


def _run(name: str, private: Path, played: PlayResult, on_event: Callable[[Json], None]) -> None:
    import ansible_runner

    def handle(event: Json) -> bool:
        _handle_event(event, played, on_event)
        return False  # write no file for this event, which could hold a secret

    done = ansible_runner.run(
        private_data_dir=str(private),
        project_dir=str(collection()),
        playbook=str(collection() / "playbooks" / f"{name}.yml"),
        inventory=str(content() / "inventory"),
        event_handler=handle,
        quiet=True,
        settings={"pexpect_timeout": NOTICE_SECONDS, "suppress_ansible_output": True},
        suppress_env_files=True,
    )
    played.interrupted = done.status == "canceled"
    if done.rc != 0 and not played.error and not played.interrupted:
        played.error = _ansible_error(name, Path(done.config.artifact_dir) / "stdout")


def _handle_event(event: Json, played: PlayResult, on_event: Callable[[Json], None]) -> None:
    kind, data = event.get("event"), event.get("event_data", {})
    if kind == "playbook_on_task_start":
        on_event({"kind": "task", "role": _role(data), "task": data["task"]})
    elif kind == "runner_on_ok":
        played.results[data["task_action"].removeprefix(COLLECTION)] = data["res"]
        played.changed += bool(data["res"].get("changed"))
    elif kind in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
        played.error = played.error or _error(data)


def _error(data: Json) -> HomeportError:
    result = data["res"]
    if parts := result.get("homeport_error") or _hostctl_error(result.get("stdout")):
        error = HomeportError(**parts)
        error.reason = result.get("homeport_reason", "")
        return error
    what = str(result.get("msg") or "it failed without a message")
    stderr = "\n".join(str(result[key]).strip() for key in ("stderr", "module_stderr") if result.get(key))
    where = " / ".join(part for part in (_role(data), data["task"]) if part)
    return HomeportError(
        what + (f"\n{stderr}" if stderr else ""), f"{data.get('host', '')}: {where}", "", ExitCode.FAILED
    )


def _role(data: Json) -> str:
    """The role's name without the collection's; "" for a task of a playbook."""
    return str(data.get("role") or "").removeprefix(COLLECTION)


def _hostctl_error(stdout: Any) -> Json | None:
    """The error that hostctl printed, for a task that ran it; None otherwise."""
    try:
        error = json.loads(stdout)["error"]
        return {part: error[part] for part in ("what", "where", "fix", "code")}
    except (ValueError, TypeError, KeyError):
        return None


def _ansible_error(name: str, stdout: Path) -> HomeportError:
    last = stdout.read_text(errors="replace").strip().splitlines()[-20:] if stdout.is_file() else []
    return HomeportError("Ansible failed:\n" + "\n".join(last), f"playbooks/{name}.yml", "", ExitCode.FAILED)
