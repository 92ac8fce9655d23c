"""Ask the host what it is, what it holds and who works on it; refuse early what would be refused late."""

from __future__ import annotations

from typing import Any

from homeport.core.errors import ExitCode, HomeportError
from homeport.core.provision_stamp import NeedsProvisionError
from homeport.core.timestamps import iso
from homeport.plays.actions.action import Action

Json = dict[str, Any]


class ActionModule(Action):
    """Returns {"facts": …} as hostctl's `inspect` gives them."""

    def act(self, args: Json, task_vars: Json) -> Json:
        host = self.hostctl(task_vars)
        facts = host.call("inspect")
        # the lock first: who is kept from pushing is kept from provisioning on the way to it
        if holder := manual_lock(facts):
            raise locked(holder, host.where)
        if facts["stamp"] != args["stamp"]:
            raise NeedsProvisionError(host.where)
        return {"facts": facts}


def manual_lock(facts: Json) -> Json | None:
    """The lock a person has put on the app, if there is one. A transition's own lock may end in time: `push` waits."""
    lock: Json | None = facts.get("lock")
    return lock if lock and lock.get("manual") else None


def locked(holder: Json, where: str) -> HomeportError:
    """The refusal that names who holds the lock."""
    who = f"{holder['who']} from {holder['from']} since {iso(holder['since'])}"
    said = f": {holder['message']}" if holder.get("message") else ""
    return HomeportError(f"the app is locked by {who}{said}", where, "deploy lock release", ExitCode.LOCKED)
