"""The action certificates: sends custom certificates and their keys to hostctl on standard input."""

from __future__ import annotations

from homeport.plays import custom_certificates
from homeport.plays.action import Action
from homeport.plays.actions.switch import values_of
from hostctl.common.documents import Json

DOCUMENTATION = """
module: certificates
short_description: Send custom certificates to the edge
description:
  - Sends certificates and their private keys to the host on standard input. No argument and no result holds a key.
  - A key without a value keeps the one that the host has.
options:
  app:
    description: The app, as in deploy.yml.
    type: str
    required: true
  certificates:
    description: The certificates.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The domain name.
        type: str
        required: true
      certificate:
        description: A PEM file on the controller with the certificate and its chain.
        type: path
        required: true
      key:
        description: The name of the secret that holds the private key.
        type: str
        required: true
notes:
  - Runs on the controller. Calls hostctl on the host as root, so the task needs root or C(become).
  - Reads the values from the file that C(deploy) writes for one run, otherwise from the environment of Ansible.
author: Homeport
"""

EXAMPLES = """
- name: Send the custom certificates
  homeport.deploy.certificates:
    app: shop
    certificates:
      - name: shop.example.com
        certificate: certs/shop.pem
        key: SHOP_CERTIFICATE_KEY
"""

RETURN = """
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
    """Returns {"changed": bool}. A key without a value keeps the one that the host has."""

    def act(self, args: Json, task_vars: Json) -> Json:
        certificates = args["certificates"]
        values = values_of(one["key"] for one in certificates)
        given = custom_certificates.given(certificates, values, task_vars.get("homeport_acme_root"))
        if self._task.check_mode:
            return {"skipped": True}
        # sent to `edge`, the whole host, because the app does not exist before its first provisioning
        host = self.root_hostctl("edge", task_vars)
        changed = host.send("certificates", {"certificates": given}, args["app"])["changed"]
        return {"changed": bool(changed)}
