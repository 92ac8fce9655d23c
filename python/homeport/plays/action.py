"""The base class of the playbooks' action plugins: arguments in, result out, errors in three parts."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from homeport.core.errors import ExitCode, HomeportError
from homeport.remote.hostctl import ROOT_HOSTCTL, Hostctl, NotProvisionedError
from homeport.screen import events
from homeport.ssh import connection
from hostctl.common.documents import Json


class Action(ActionBase):  # type: ignore[misc]
    """An action plugin of Homeport: `act` does the work and returns what the task registers."""

    # the name of the step on the screen; empty for an action that reports its steps itself
    step = ""

    @abstractmethod
    def act(self, args: Json, task_vars: Json) -> Json:
        """Run the task. Raises HomeportError."""

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        super().run(tmp, task_vars)
        began = time.monotonic()
        self._say("begin")
        try:
            result = self.act(self._task.args, task_vars or {})
        except HomeportError as error:
            self._say("failed")
            return {
                "failed": True,
                "msg": "\n".join(error.lines()),
                "homeport_error": error.as_dict(),
                "homeport_reason": error.reason,
            }
        elapsed = int((time.monotonic() - began) * 1000)
        self._say("ok", str(result.get("says", "")), elapsed)
        return {"changed": False, **result, "step": self.step, "ms": elapsed}

    def _say(self, state: str, text: str = "", ms: int | None = None) -> None:
        if self.step:
            events.step(self.step, state, text, ms)

    def hostctl(self, task_vars: Json) -> Hostctl:
        """hostctl over the play's own connection, as the deploy user; one remote command per call."""
        user = self._user(task_vars)
        return Hostctl(task_vars["homeport_app"], _where(user, task_vars), self._run, sudo=user != "root")

    def root_hostctl(self, app: str, task_vars: Json) -> Hostctl:
        """hostctl as root, through the task's own `become`: for the verbs that the deploy user may not run."""
        where = _where(self._user(task_vars), task_vars)
        return Hostctl(app, where, self._run_as_root, sudo=False, program=ROOT_HOSTCTL)

    def converge(self, verb: str, spec: Json, task_vars: Json) -> list[Any] | None:
        """What `hostctl host VERB` changes so that the host is as the spec says; in check mode, what it would change.

        None in check mode where nothing has installed the hostctl that would know it.
        """
        spec = {**spec, "check": bool(self._task.check_mode)}
        try:
            return list(self.root_hostctl("host", task_vars).send(verb, spec)["changed"])
        except HomeportError as error:
            # an older hostctl refuses the arguments
            missing = isinstance(error, NotProvisionedError) or error.code == ExitCode.USAGE
            if not (self._task.check_mode and missing):
                raise
            return None

    def _user(self, task_vars: Json) -> str | None:
        return self._play_context.remote_user or task_vars.get("ansible_user")

    def _run_as_root(self, command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        try:
            done = self._low_level_execute_command(" ".join(command), sudoable=True, in_data=stdin)
        except AnsibleConnectionFailure as error:
            raise connection.failure(str(self._connection.host), str(error)) from None
        return done["rc"], done["stdout"].encode(), done["stderr"].encode()

    def _run(self, command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        try:
            return self._connection.exec_command(" ".join(command), in_data=stdin, sudoable=False)  # type: ignore[no-any-return]
        except AnsibleConnectionFailure as error:
            raise connection.failure(str(self._connection.host), str(error)) from None


def _where(user: str | None, task_vars: Json) -> str:
    return f"{user}@{task_vars.get('ansible_host', task_vars['inventory_hostname'])}"
