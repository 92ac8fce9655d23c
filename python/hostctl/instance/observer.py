"""A way from the live instance to a node on a person's own machine, over the connection of their `deploy observer`.

The instance listens nowhere, so it connects: to an address of the loopback network that is drawn for this, on which
this process listens for that one connection, and carries it through its standard input and output. Whoever else of the
host comes first meets a node that wants the cookie, which is new and in no file here.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading

from hostctl.common import relay
from hostctl.common.errors import DONE, FAILED, HostError
from hostctl.core.paths import App
from hostctl.instance import agent
from hostctl.instance.console import loopback
from hostctl.release.envfile import DIST_PORT

PATIENCE = 15.0  # seconds until the instance must have connected


def run(app: App, live: str, source: int, sink: int) -> int:
    """Say what the person's node must be called, wait for a byte that says it listens, and carry the connection.

    Returns the exit status when either side has left. Raises HostError.
    """
    instance, address = agent.node(app, live), loopback()
    peer, cookie = f"observer-{secrets.token_hex(4)}@{address}", secrets.token_hex(32)
    with socket.create_server((address, DIST_PORT), backlog=1) as listening:
        os.write(sink, json.dumps({"instance": instance, "peer": peer, "cookie": cookie}).encode() + b"\n")
        if not os.read(source, 1):
            return DONE
        threading.Thread(target=agent.connect, args=(app, live, peer, cookie), daemon=True).start()
        connection = _instance(app, live, listening)
    with connection:
        relay.carry(connection, source, sink)
    return DONE


def _instance(app: App, live: str, listening: socket.socket) -> socket.socket:
    listening.settimeout(PATIENCE)
    try:
        connection, _ = listening.accept()
    except TimeoutError:
        what = f"the live instance did not connect within {PATIENCE:.0f} s"
        raise HostError(what, app.unit(live), "deploy status tells whether it runs", FAILED) from None
    connection.settimeout(None)
    return connection
