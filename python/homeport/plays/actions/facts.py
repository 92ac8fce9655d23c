"""The action facts: what the host is, and what of Homeport it has, in one remote command."""

from __future__ import annotations

import json
from importlib.resources import files

from homeport.core.errors import HomeportError
from homeport.plays.action import Action
from hostctl.common.documents import Json

DOCUMENTATION = """
module: facts
short_description: Gather what the roles ask about the host
description:
  - Gathers the distribution and the architecture, as M(ansible.builtin.setup) names them, and C(homeport), which has
    the installed packages, the users, Homeport's programs, its units and its settings.
  - A role skips with them what a host has already. Each task that is skipped saves several remote commands.
notes:
  - Needs nothing on the host but Python.
  - Runs in check mode, and changes nothing.
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
"""

EXAMPLES = """
- name: Gather facts about the host
  homeport.deploy.facts:
"""

RETURN = """
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    distribution: {description: The distribution's name., type: str, sample: Debian}
    distribution_major_version: {description: The first part of its version., type: str, sample: "13"}
    distribution_version: {description: Its version., type: str, sample: "13.2"}
    architecture: {description: The machine., type: str, sample: x86_64}
    homeport:
      description: >-
        C(packages) is a list of names. C(accounts) has home, shell and kind of password by user. C(programs) has owner,
        group, mode and SHA-256 by path. C(units) are the names of unit files, and C(settings) the paths of JSON files.
      type: dict
"""

PROGRAM = "host_facts.py"


class ActionModule(Action):
    """Returns {"ansible_facts": dict}."""

    def act(self, args: Json, task_vars: Json) -> Json:
        program = files("homeport.plays").joinpath(PROGRAM).read_bytes()
        code, out, err = self._run_as_root(["/usr/bin/python3", "-I", "-B", "-"], program)
        try:
            return {"ansible_facts": {f"ansible_{name}": fact for name, fact in json.loads(out).items()}}
        except ValueError:
            said = err.decode(errors="replace").strip()[-300:]
            what = f"the program that gathers facts about the host ended with {code} and no facts: {said}"
            fix = "apt-get install python3, on the host; then deploy provision"
            raise HomeportError(what, str(self._connection.host), fix) from None
