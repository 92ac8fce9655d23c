"""The action certificates: sends custom certificates and their keys to hostctl on standard input."""

from __future__ import annotations

from homeport.plays import custom_certificates
from homeport.plays.action import Action
from homeport.plays.actions.switch import secret_values
from hostctl.common.documents import Json

DOCUMENTATION = """
module: certificates
short_description: Send custom certificates to the edge
description:
  - Sends certificates and their private keys to the host on standard input. No argument and no result holds a key.
  - A key without a value keeps the one that the host has.
options:
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
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.root
  - homeport.deploy.action.secrets
  - homeport.deploy.action.app
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


class ActionModule(Action):
    """Returns {"changed": bool}. A key without a value keeps the one that the host has."""

    def act(self, args: Json, task_vars: Json) -> Json:
        certificates = args["certificates"]
        values = secret_values(one["key"] for one in certificates)
        contents = custom_certificates.read_all(certificates, values, task_vars.get("homeport_acme_root"))
        if self._task.check_mode:
            return {"skipped": True}
        # sent to `edge`, the whole host, because the app does not exist before its first provisioning
        host = self.root_hostctl("edge", task_vars)
        changed = host.send("certificates", {"certificates": contents}, args["app"])["changed"]
        return {"changed": bool(changed)}
