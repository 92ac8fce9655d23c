"""A node on this machine to which the live instance connects, so that a local Observer looks at it.

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
from homeport.core.performer import here, who
from homeport.remote.session import Session
from homeport.remote.tunnel import LOCAL, Way, free
from homeport.ssh import connection as ssh_connection
from hostctl.common import relay
from hostctl.common.documents import Json

PORT = 14370  # here, unless another is asked for
KNOCK = 0.2  # seconds between two looks at whether the local node listens
VERB = "deploy observer"


@dataclass(frozen=True)
class Told:
    """Who is told what: the command that starts the node; the instance's name, once the node is there for it."""

    ready: Callable[[str], None]
    reached: Callable[[str], None]


def hold(session: Session, port: int, told: Told) -> int:
    """Wait for the local node and carry its connection until either side leaves; returns the exit status.

    Ctrl-C, or a signal to end, ends it. Raises HomeportError: usage for a port that is taken, and when the connection
    fails.
    """
    free(Way(port, "", VERB))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with private_directory.directory() as home, _relay(session) as process:
            return _held(session, process, home, port, told)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _relay(session: Session) -> Iterator[subprocess.Popen[bytes]]:
    """hostctl on the host, which asks the instance to connect. Its errors are for the person, as they are."""
    asked = {"verb": "observer", "words": [], "expression": "", "detach": False}
    name = session.hostctl.send("shell", asked, "ask")["id"]
    words = ["shell", "run", "--id", name, "--who", who(), "--from", here()]
    command, pipe = ssh_connection.command(session.target, session.hostctl.command(*words)), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0) as process:
        try:
            yield process
        finally:
            process.terminate()


def _held(session: Session, process: subprocess.Popen[bytes], home: Path, port: int, told: Told) -> int:
    assert process.stdin is not None  # noqa: S101 - both pipes were asked for
    assert process.stdout is not None  # noqa: S101
    if line := process.stdout.readline():
        given = json.loads(line)
        told.ready(prepare(home, given, port))
        if connection := _node(port, process):
            with connection:
                process.stdin.write(b"\n")
                told.reached(given["instance"])
                relay.carry(connection, process.stdout.fileno(), process.stdin.fileno())
            return 0
    if process.wait() == ssh_connection.CONNECTION_FAILED:
        raise HomeportError("the connection to the host failed", str(session.target), f"{VERB} again")
    return process.returncode


def _node(port: int, process: subprocess.Popen[bytes]) -> socket.socket | None:
    """A connection to the local node, once there is one; None when the host's side has ended meanwhile."""
    while process.poll() is None:
        try:
            return socket.create_connection((LOCAL, port))
        except OSError:
            time.sleep(KNOCK)
    return None


def prepare(home: Path, given: Json, port: int) -> str:
    """Write what the node needs into `home`, which this user alone may read; returns the command that starts it.

    `given` has the names of both nodes and the cookie. erl shows the words of an args file in its own command line, so
    the cookie is in a file that the node evaluates.
    """
    script, arguments = home / "observer.erl", home / "observer"
    bound = {"Live": given["instance"], "Peer": given["peer"], "Cookie": given["cookie"]}
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
