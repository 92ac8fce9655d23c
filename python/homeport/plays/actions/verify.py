"""Verify from outside: the public name, over HTTPS, with the certificate a visitor would check."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Any

from homeport.core.errors import ExitCode, HomeportError
from homeport.plays.actions.action import Action

TIMEOUT_SECONDS = 15.0
PORT = 443

Json = dict[str, Any]


class ActionModule(Action):
    """Fails with exit code 5 when the release is live on the host but a name does not answer from here."""

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
    except (OSError, http.client.HTTPException) as error:
        what = f"the release is live, but https://{name}{path} does not answer from here: {error}"
        raise HomeportError(what, name, fix, ExitCode.PERSON) from None
    if not 200 <= status < 300:
        raise HomeportError(f"https://{name}{path} answers {status} from here", name, fix, ExitCode.PERSON)
    return status


def get(name: str, path: str, address: str | None, root: str | None) -> int:
    """GET over HTTPS with the certificate checked for `name` against `root` (a PEM file) or the system's trust."""
    context = ssl.create_default_context(cafile=root or None)
    with (
        socket.create_connection((address or name, PORT), TIMEOUT_SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=name) as secured,
    ):
        connection = http.client.HTTPConnection(name, timeout=TIMEOUT_SECONDS)
        connection.sock = secured
        connection.request("GET", path, headers={"Host": name, "User-Agent": "homeport"})
        return connection.getresponse().status
