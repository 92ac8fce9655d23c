"""Connects the live instance to an Erlang node on this machine, for a local Observer.

The connection goes through a session of hostctl (hostctl.instance.observer). Only loopback ports are opened, on the
laptop and on the host, and both are closed at the end.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from homeport.core import private_directory
from homeport.core.errors import HomeportError
from homeport.core.performer import performer_options
from homeport.remote.session import Session
from homeport.remote.tunnel import LOCAL, Forwarding, require_free
from homeport.ssh import connection as ssh_connection
from hostctl.common.documents import Json
from hostctl.common.net import relay

PORT = 14370  # the default local port
RETRY_SECONDS = 0.2  # seconds between two attempts to connect to the local node
VERB = "deploy observer"


@dataclass(frozen=True)
class Callbacks:
    """`ready` gets the command that starts the local node; `reached` the instance's name, once both are connected."""

    ready: Callable[[str], None]
    reached: Callable[[str], None]


def hold(session: Session, port: int, callbacks: Callbacks) -> int:
    """Wait for the local node and relay its connection until either side closes it; returns the exit status.

    Ctrl-C and SIGTERM end it. Raises HomeportError (usage) if the port is in use, and HomeportError if the connection
    fails.
    """
    require_free(Forwarding(port, "", VERB))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with private_directory.directory() as home, _relay(session) as process:
            return _run_until_end(session, process, home, port, callbacks)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _relay(session: Session) -> Iterator[subprocess.Popen[bytes]]:
    """hostctl on the host, which makes the instance connect. It writes its errors to this terminal itself."""
    request = {"verb": "observer", "words": [], "expression": "", "detach": False}
    name = session.hostctl.send("shell", request, "ask")["id"]
    words = ["shell", "run", "--id", name, *performer_options()]
    command, pipe = ssh_connection.command(session.target, session.hostctl.command(*words)), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0) as process:
        try:
            yield process
        finally:
            process.terminate()


def _run_until_end(
    session: Session, process: subprocess.Popen[bytes], home: Path, port: int, callbacks: Callbacks
) -> int:
    assert process.stdin is not None  # noqa: S101 - Popen was given both pipes
    assert process.stdout is not None  # noqa: S101
    if line := process.stdout.readline():
        nodes = json.loads(line)
        callbacks.ready(prepare(home, nodes, port))
        if connection := _node(port, process):
            with connection:
                process.stdin.write(b"\n")
                callbacks.reached(nodes["instance"])
                relay.carry(connection, process.stdout.fileno(), process.stdin.fileno())
            return 0
    if process.wait() == ssh_connection.CONNECTION_FAILED:
        raise HomeportError("the connection to the host failed", str(session.target), f"run {VERB} again")
    return process.returncode


def _node(port: int, process: subprocess.Popen[bytes]) -> socket.socket | None:
    """A connection to the local node, once it listens; None if the process on the host's side ended before."""
    while process.poll() is None:
        try:
            return socket.create_connection((LOCAL, port))
        except OSError:
            time.sleep(RETRY_SECONDS)
    return None


def prepare(home: Path, nodes: Json, port: int) -> str:
    """Write the node's files into `home`, a directory private to this user; returns the command that starts the node.

    `nodes` has the names of both nodes and the cookie. erl shows the words of an args file in its own command line, so
    the cookie is in a file that the node evaluates.
    """
    script, arguments = home / "observer.erl", home / "observer"
    bound = {"Live": nodes["instance"], "Peer": nodes["peer"], "Cookie": nodes["cookie"]}
    values = "".join(f"{name} = {atom(value)}.\n" for name, value in bound.items())
    private_directory.write(script, values + (files("homeport.remote") / "observer.erl").read_text())
    private_directory.write(
        arguments,
        f"-start_epmd false -erl_epmd_port {port} -hidden -kernel inet_dist_use_interface {{127,0,0,1}}\n"
        f"-eval 'file:eval(\"{script}\").'\n",
    )
    return f"erl -args_file {arguments}"


def atom(text: str) -> str:
    """The text as an Erlang atom."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
