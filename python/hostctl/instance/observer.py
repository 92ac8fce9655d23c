"""A way from the live instance to a node on a person's own machine, over the connection of their `deploy observer`.

The instance listens nowhere, so it connects: to an address of the loopback network that is drawn for this, on which
this process listens for that one connection, and carries it through its standard input and output. A connection that no
process of the instance has made is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time

from hostctl.common.errors import DONE, FAILED, HostError
from hostctl.common.net import relay
from hostctl.host import listeners
from hostctl.instance import agent
from hostctl.instance.agent import Instance
from hostctl.instance.console import loopback
from hostctl.release.envfile import DIST_PORT

PATIENCE = 15.0  # seconds until the instance must have connected


def run(instance: Instance, source: int, sink: int) -> int:
    """Say what the person's node must be called, wait for a byte that says it listens, and carry the connection.

    Returns the exit status when either side has left. Raises HostError.
    """
    node, address = agent.node(instance), loopback()
    peer, cookie = f"observer-{secrets.token_hex(4)}@{address}", secrets.token_hex(32)
    with socket.create_server((address, DIST_PORT), backlog=1) as listening:
        os.write(sink, json.dumps({"instance": node, "peer": peer, "cookie": cookie}).encode() + b"\n")
        if not os.read(source, 1):
            return DONE
        connecting = agent.start_connecting(instance, peer, cookie, 0)
        try:
            connection = _accept(instance, listening)
        finally:
            connecting.end()
    with connection:
        relay.carry(connection, source, sink)
    return DONE


def _accept(instance: Instance, listening: socket.socket) -> socket.socket:
    """The first connection that a process of the instance has made. Raises HostError when none comes in time."""
    deadline = time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        listening.settimeout(left)
        with contextlib.suppress(TimeoutError):
            connection, _ = listening.accept()
            if listeners.is_peer(connection, instance.group):
                connection.settimeout(None)
                return connection
            connection.close()
    what = f"the live instance did not connect within {PATIENCE:.0f} s"
    raise HostError(what, instance.app.unit(instance.release), "deploy status tells whether it runs", FAILED)
