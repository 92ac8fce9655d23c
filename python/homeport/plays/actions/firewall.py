"""The action firewall: puts the host's firewall in force, and confirms it over a new connection."""

from __future__ import annotations

import shlex
import subprocess
import time

from homeport.core.errors import HomeportError
from homeport.plays.action import Action
from hostctl.common.documents import Json

DOCUMENTATION = """
module: firewall
short_description: Put the host's firewall in force, unless it would lock you out
description:
  - Closes every port to other machines but SSH's, 80, 443 and those that the host's apps open. Other tables of nftables
    stay.
  - New rules have to be confirmed by a new SSH connection from the controller. If none succeeds, the host takes them
    back by itself.
  - The first rules are refused where they would close a port that other machines can reach now.
options:
  enabled:
    description: Whether the app wants a firewall. It is in force while one app of the host wants it.
    type: bool
    default: true
  open:
    description: Ports that the app opens besides, such as C(8443/tcp).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
  - homeport.deploy.action.app
"""

EXAMPLES = """
- name: Close all ports but those of SSH, the edge and the app
  homeport.deploy.firewall:
    app: shop
    open: [8443/tcp]
"""

UNDONE_AFTER = 60  # seconds until the host takes new rules back
# attempts at a new connection, the seconds that each may take, and those between them: in all, less than UNDONE_AFTER
TRIES, WAIT, PAUSE = 3, 16, 2.0
FRESH = ("-o", "ControlMaster=no", "-o", "ControlPath=none")


class ActionModule(Action):
    """Returns {"changed": bool}."""

    def act(self, args: Json, task_vars: Json) -> Json:
        if self._task.check_mode:
            return {"skipped": True}
        host = self.root_hostctl("host", task_vars)
        wish = {"enabled": bool(args.get("enabled", True)), "open": list(args.get("open", []))}
        changed = host.send("firewall", wish, "apply", args["app"], str(UNDONE_AFTER))["changed"]
        if changed:
            self._connect_anew(task_vars)
            host.call("firewall", "confirm")
        return {"changed": changed}

    def _connect_anew(self, task_vars: Json) -> None:
        """Raises HomeportError unless a connection of its own reaches the host."""
        if self._connection.transport != "ssh":
            return  # the controller is the host itself
        said = ""
        for attempt in range(TRIES):
            time.sleep(PAUSE if attempt else 0)
            try:
                done = subprocess.run(self._fresh(task_vars), capture_output=True, text=True, timeout=WAIT, check=False)
            except subprocess.TimeoutExpired:
                said = f"no answer within {WAIT} s"
                continue
            if done.returncode == 0:
                return
            said = (done.stderr.strip().splitlines() or [said])[-1]
        what = f"no new SSH connection reaches the host with its new firewall rules: {said}"
        fix = f"wait {UNDONE_AFTER} s, in which the host takes them back; then see hardening in deploy.yml"
        raise HomeportError(what, str(task_vars.get("ansible_host")), fix)

    def _fresh(self, task_vars: Json) -> list[str]:
        args = shlex.split(str(task_vars.get("ansible_ssh_args", "")))  # the first value of an option counts
        user, host = self._user(task_vars), task_vars.get("ansible_host", task_vars["inventory_hostname"])
        return ["ssh", *FRESH, *args, f"{user}@{host}" if user else str(host), "true"]
