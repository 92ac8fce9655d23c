"""Run a verb of hostctl as root, while the host is provisioned."""

from __future__ import annotations

from typing import Any

from homeport.plays.actions.action import Action

Json = dict[str, Any]


class ActionModule(Action):
    """Returns {"changed": bool, "answer": hostctl's document}."""

    def act(self, args: Json, task_vars: Json) -> Json:
        if self._task.check_mode:
            return {"skipped": True}
        app, *words = args["arguments"]
        answer = self.root_hostctl(app, task_vars).call(*words)
        return {"changed": bool(answer.get(args.get("changed_field", "changed"))), "answer": answer}
