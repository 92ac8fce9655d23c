"""The action units: systemd units of the host enabled, started and restarted, in one remote command."""

from __future__ import annotations

from homeport.plays.action import Action
from hostctl.common.documents import Json

DOCUMENTATION = """
module: units
short_description: Enable, start and restart systemd units in one remote command
description:
  - Enables what is not enabled, starts what does not run, and restarts what is older than its files. Does nothing else.
  - Has systemd read unit files first that it has not read since they changed, also those of an interrupted run.
options:
  enabled:
    description: Units that are started at boot.
    type: list
    elements: str
    default: []
  started:
    description: Units that run.
    type: list
    elements: str
    default: []
  restarted:
    description: By unit the files. The unit is restarted if one of them has changed since its start.
    type: dict
    default: {}
notes:
  - Needs hostctl on the host.
  - Supports check mode.
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
"""

EXAMPLES = """
- name: Start the edge and enable it at boot
  homeport.deploy.units:
    enabled: [caddy.service]
    started: [caddy.service]
"""

RETURN = """
units:
  description: The units that were enabled, started or restarted.
  returned: success
  type: list
  elements: str
"""


class ActionModule(Action):
    """Returns {"changed": bool, "units": list}."""

    def act(self, args: Json, task_vars: Json) -> Json:
        spec: Json = {
            "enabled": list(args.get("enabled", [])),
            "started": list(args.get("started", [])),
            "restarted": dict(args.get("restarted", {})),
        }
        units = self.converge("units", spec, task_vars)
        if units is None:
            units = sorted({*spec["enabled"], *spec["started"]})
        return {"changed": bool(units), "units": units}
