"""The action pinned_program: fetches a pinned program to the controller, or packs hostctl there."""

from __future__ import annotations

from homeport.core import hostctl_zipapp, pinned_programs
from homeport.plays.action import Action
from hostctl.common.documents import Json
from hostctl.common.files import file_digest

DOCUMENTATION = """
module: pinned_program
short_description: Fetch a pinned program to the controller
description:
  - Fetches the pinned version of a program for the host's architecture into the cache of the controller, and verifies
    it by its SHA-256. C(hostctl) is packed from this Homeport.
  - Copies nothing to the host.
options:
  name:
    description: The program, C(caddy) for instance, or C(hostctl).
    type: str
    required: true
  architecture:
    description: The host's architecture, C(x86_64) or C(aarch64). Not needed for C(hostctl).
    type: str
    default: ""
notes:
  - Runs on the controller alone.
extends_documentation_fragment:
  - homeport.deploy.action
"""

EXAMPLES = """
- name: Fetch the pinned Caddy to the controller
  homeport.deploy.pinned_program:
    name: caddy
    architecture: "{{ ansible_facts['architecture'] }}"
"""

RETURN = """
path:
  description: The program's file on the controller.
  returned: success
  type: str
installed:
  description: What the action facts says of this program where it is installed.
  returned: success
  type: dict
"""


class ActionModule(Action):
    """Returns {"path": str, "installed": dict}; the same in check mode."""

    def act(self, args: Json, task_vars: Json) -> Json:
        name, machine = args["name"], args.get("architecture", "")
        path = hostctl_zipapp.pack() if name == "hostctl" else pinned_programs.fetch(name, machine)
        installed = {"owner": "root", "group": "root", "mode": "0755", "sha256": file_digest(path)}
        return {"path": str(path), "installed": installed}
