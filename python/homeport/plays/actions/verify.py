"""The action verify: checks the public names over HTTPS with the certificate, as a browser would."""

from __future__ import annotations

import socket
import ssl

from homeport.core.errors import ExitCode, HomeportError
from homeport.plays.action import Action
from hostctl.common.documents import Json
from hostctl.common.net import http

LIMITS = http.Limits(15.0, 15.0, body=0, whole=False)  # only the status is asked for
PORT = 443


DOCUMENTATION = """
module: verify
short_description: Check the app from outside
description:
  - Sends C(GET) to the health path of each domain over HTTPS from the controller and checks the certificate.
  - Fails with exit code 5 where a domain does not answer although the release is live on the host.
options:
  domains:
    description: The domains; those with C(redirect_to) are not asked.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The domain name.
        type: str
        required: true
      redirect_to:
        description: The domain that it redirects to.
        type: str
notes:
  - Runs on the controller, and reaches the host by HTTPS only.
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.inventory
"""

EXAMPLES = """
- name: Check the app from outside
  homeport.deploy.verify:
    domains: "{{ homeport_domains }}"
"""

RETURN = """
url:
  description: The app's URL.
  returned: success
  type: str
"""


class ActionModule(Action):
    """Fails with exit code 5 if the release is live on the host but a name does not answer from here."""

    step = "outside"

    def act(self, args: Json, task_vars: Json) -> Json:
        path = task_vars["homeport_settings"]["health"]["path"]
        names = [domain["name"] for domain in args["domains"] if not domain.get("redirect_to")]
        for name in names:
            answer(name, path, task_vars.get("homeport_verify_address"), task_vars.get("homeport_acme_root"))
        return {"url": f"https://{names[0]}/", "says": f"https://{names[0]}/"}


def answer(name: str, path: str, address: str | None, root: str | None) -> int:
    """The status of GET https://name/path, asked at `address` if given. Raises HomeportError unless it is 2xx."""
    fix = f"curl -v https://{name}{path}"
    try:
        status = get(name, path, address, root)
    except socket.gaierror:
        what, fix = f"the release is live, but {name} does not resolve from here", f"point {name} at the host in DNS"
        raise HomeportError(what, name, fix, ExitCode.PERSON) from None
    except OSError as error:
        what = f"the release is live, but https://{name}{path} does not answer from here: {error}"
        raise HomeportError(what, name, fix, ExitCode.PERSON) from None
    if not 200 <= status < 300:
        raise HomeportError(f"https://{name}{path} answers {status} from here", name, fix, ExitCode.PERSON)
    return status


def get(name: str, path: str, address: str | None, root: str | None) -> int:
    """GET over HTTPS with the certificate checked for `name` against `root` (a PEM file) or the system's trust."""
    context = ssl.create_default_context(cafile=root or None)
    server = http.Server(name, PORT, context, (address, PORT) if address else None)
    return http.request(server, "GET", path, headers={"User-Agent": "homeport"}, limits=LIMITS).status
