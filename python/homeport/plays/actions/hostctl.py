"""The action hostctl: runs a verb of hostctl as root during provisioning."""

from __future__ import annotations

from homeport.plays.action import Action
from hostctl.common.documents import Json

DOCUMENTATION = """
module: hostctl
short_description: Run a verb of hostctl as root
description:
  - Runs C(/usr/local/lib/homeport/root-hostctl), the entry point of hostctl that root alone may run.
  - For the verbs that converge the host. The deploy user cannot run them.
options:
  arguments:
    description: The app, the verb and its options. C(edge) in place of the app is for the whole host.
    type: list
    elements: str
    required: true
  changed_field:
    description: The field of the answer that is true, or not empty, when something changed.
    type: str
    default: changed
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
"""

EXAMPLES = """
- name: Start the accessories
  homeport.deploy.hostctl:
    arguments: [shop, accessories]
"""

RETURN = """
answer:
  description: The JSON document that hostctl printed.
  returned: success
  type: dict
"""


class ActionModule(Action):
    """Returns {"changed": bool, "answer": hostctl's document}."""

    def act(self, args: Json, task_vars: Json) -> Json:
        if self._task.check_mode:
            return {"skipped": True}
        app, *words = args["arguments"]
        answer = self.root_hostctl(app, task_vars).call(*words)
        return {"changed": bool(answer.get(args.get("changed_field", "changed"))), "answer": answer}
