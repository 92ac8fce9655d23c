"""Hand the team's own certificates and their keys to hostctl on standard input: no argument, no result holds a key."""

from __future__ import annotations

from typing import Any

from homeport.plays import custom_certificates
from homeport.plays.actions.action import Action
from homeport.plays.actions.switch import values_of

Json = dict[str, Any]


class ActionModule(Action):
    """Returns {"changed": bool}. A key that is not given stays the one that the host has."""

    def act(self, args: Json, task_vars: Json) -> Json:
        certificates = args["certificates"]
        values = values_of(one["key"] for one in certificates)
        given = custom_certificates.given(certificates, values, task_vars.get("homeport_acme_root"))
        if self._task.check_mode:
            return {"skipped": True}
        # of the whole host: there is no app yet when it is provisioned for the first time
        host = self.root_hostctl("edge", task_vars)
        changed = host.send("certificates", {"certificates": given}, args["app"])["changed"]
        return {"changed": bool(changed)}
