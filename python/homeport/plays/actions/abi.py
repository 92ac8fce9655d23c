"""The action abi: refuses a release that cannot run on the host, before it is uploaded."""

from __future__ import annotations

from homeport.plays.action import Action
from homeport.release import abi
from hostctl.common.documents import Json

DOCUMENTATION = """
module: abi
short_description: Refuse a release that the host cannot run
description:
  - Compares the shared libraries and symbol versions that the release needs with those that the host has.
  - Fails with every library, symbol version and machine type that is missing. Nothing has been uploaded by then.
options:
  needs:
    description: What each ELF file of the release needs, as M(homeport.deploy.build) returns it.
    type: list
    elements: dict
    required: true
  host:
    description: The facts of the host, as M(homeport.deploy.inspect) returns them.
    type: dict
    required: true
notes:
  - Runs on the controller. Calls hostctl over the play's connection as the deploy user, without C(become).
author: Homeport
"""

EXAMPLES = """
- name: Check that the host can run the release
  homeport.deploy.abi:
    needs: "{{ homeport_built.needs }}"
    host: "{{ homeport_host.facts }}"
"""

RETURN = """
files:
  description: How many ELF files were compared.
  returned: success
  type: int
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
    """Fails with every library, symbol version and machine type that the release needs and the host does not have."""

    def act(self, args: Json, task_vars: Json) -> Json:
        needs = [abi.Need(**{**need, "libraries": tuple(need["libraries"])}) for need in args["needs"]]
        if problems := abi.check(needs, args["host"]):
            raise abi.refusal(problems, self.hostctl(task_vars).where)
        return {"files": len(needs)}
