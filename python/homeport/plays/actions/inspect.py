"""The action inspect: reads the host's facts, and refuses if the app is locked or the host must be provisioned."""

from __future__ import annotations

from homeport.core.errors import ExitCode, HomeportError
from homeport.core.provision_stamp import NeedsProvisionError
from homeport.plays.action import Action
from hostctl.common.documents import Json
from hostctl.common.timestamps import iso

DOCUMENTATION = """
module: inspect
short_description: Read the host's facts before a deployment
description:
  - Returns what the host is, which releases it holds, what is live, and who holds the lock.
  - Fails where a person has locked the app, and where the host was provisioned for other settings.
options:
  stamp:
    description: The hash of roles and variables that the host must have been provisioned with.
    type: str
    required: true
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.deploy_user
  - homeport.deploy.action.inventory
"""

EXAMPLES = """
- name: Read the host's facts
  homeport.deploy.inspect:
    stamp: "{{ homeport_stamp }}"
  register: homeport_host
"""

RETURN = """
facts:
  description: The document of C(hostctl APP inspect).
  returned: success
  type: dict
"""


class ActionModule(Action):
    """Returns {"facts": …} as hostctl's `inspect` gives them."""

    def act(self, args: Json, task_vars: Json) -> Json:
        host = self.hostctl(task_vars)
        facts = host.call("inspect")
        # the lock first, because a push that needs provisioning must not provision a locked app
        if holder := manual_lock(facts):
            raise lock_error(holder, host.where)
        if facts["stamp"] != args["stamp"]:
            raise NeedsProvisionError(host.where)
        return {"facts": facts}


def manual_lock(facts: Json) -> Json | None:
    """The lock that a person holds, or None. The lock of a running transition does not count, because `push` waits."""
    lock: Json | None = facts.get("lock")
    return lock if lock and lock.get("manual") else None


def lock_error(holder: Json, where: str) -> HomeportError:
    """The error that names the holder of the lock."""
    who = f"{holder['who']} from {holder['from']} since {iso(holder['since'])}"
    message = f": {holder['message']}" if holder.get("message") else ""
    return HomeportError(f"the app is locked by {who}{message}", where, "deploy lock release", ExitCode.LOCKED)
