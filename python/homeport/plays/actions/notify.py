"""Hand the receivers and their URLs to hostctl on standard input: no argument and no result holds a URL."""

from __future__ import annotations

from typing import Any

from homeport.plays.actions.action import Action
from homeport.plays.actions.switch import values_of

Json = dict[str, Any]


class ActionModule(Action):
    """Returns {"changed": bool}. A URL that nothing gives keeps the value that the host has."""

    def act(self, args: Json, task_vars: Json) -> Json:
        if self._task.check_mode:
            return {"skipped": True}
        receivers = args["receivers"]
        told = {"receivers": receivers, "urls": values_of(one["url"] for one in receivers)}
        return self.root_hostctl(args["app"], task_vars).send("notifier", told, "keep")
