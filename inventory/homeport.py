"""Ansible's inventory from deploy.yml: one host, in the group `homeport`, with the playbooks' variables."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: homeport
short_description: The host of a deploy.yml
description:
  - Finds deploy.yml upwards from the working directory, and gives its one host with its variables.
options:
  plugin:
    description: Names this plugin.
    type: str
    required: true
    choices: [homeport]
  config:
    description: The deploy.yml to use.
    type: path
    env:
      - name: HOMEPORT_CONFIG
  destination:
    description: The destination whose deploy.DESTINATION.yml is merged over it.
    type: str
    env:
      - name: HOMEPORT_DESTINATION
"""

EXAMPLES = """
plugin: homeport
destination: staging
"""

GROUP = "homeport"
# a file of JSON with the variables as `deploy` has resolved them; saves reading deploy.yml again
RESOLVED = "HOMEPORT_RESOLVED"


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]
    """The inventory plugin `homeport`."""

    NAME = "homeport"

    def verify_file(self, path: str) -> bool:
        """Whether a file is this plugin's: homeport.yml, or any that ends so."""
        return bool(super().verify_file(path)) and path.endswith(("homeport.yml", "homeport.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        variables = self._variables()
        host = variables["homeport_name"]
        inventory.add_group(GROUP)
        inventory.add_host(host, group=GROUP)
        for name, value in variables.items():
            inventory.set_variable(host, name, value)

    def _variables(self) -> dict[str, Any]:
        if resolved := os.environ.get(RESOLVED):
            found: dict[str, Any] = json.loads(Path(resolved).read_text())
            return found
        return _from_deploy_yml(self.get_option("config"), self.get_option("destination"))


def _from_deploy_yml(config: str | None, destination: str | None) -> dict[str, Any]:
    from homeport.config.hostvars import host_vars
    from homeport.config.layers import load
    from homeport.core.errors import HomeportError
    from homeport.core.provision_stamp import stamp

    try:
        found = host_vars(load(Path(config) if config else None, destination or None))
    except HomeportError as error:
        raise AnsibleParserError("\n".join(error.lines())) from error
    return {**found, "homeport_stamp": stamp(found)}
