"""Refuse what could not run there, before anything is uploaded."""

from __future__ import annotations

from typing import Any

from homeport.plays.actions.action import Action
from homeport.release import abi

Json = dict[str, Any]


class ActionModule(Action):
    """Fails with every library, symbol version or machine that the release needs and the host has not."""

    def act(self, args: Json, task_vars: Json) -> Json:
        needs = [abi.Need(**{**need, "libraries": tuple(need["libraries"])}) for need in args["needs"]]
        if problems := abi.check(needs, args["host"]):
            raise abi.refusal(problems, self.hostctl(task_vars).where)
        return {"files": len(needs)}
