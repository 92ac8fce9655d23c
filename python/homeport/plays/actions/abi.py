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
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.deploy_user
  - homeport.deploy.action.host
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
"""


class ActionModule(Action):
    """Fails with every library, symbol version and machine type that the release needs and the host does not have."""

    def act(self, args: Json, task_vars: Json) -> Json:
        needs = [abi.Need(**{**need, "libraries": tuple(need["libraries"])}) for need in args["needs"]]
        if problems := abi.check(needs, args["host"]):
            raise abi.refusal(problems, self.hostctl(task_vars).where)
        return {"files": len(needs)}
