"""Sends requests to a live instance over the socket that agent.erl opens in its runtime directory.

The instance is a distributed node that listens on no port. The app's user owns that directory, and could put a link to
any other socket there: so a child process that is that user connects, follows no link, and asks the kernel whether a
process of the instance listens. The agent in turn answers only to its own user.
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from hostctl.common.errors import DONE, FAILED, HostError
from hostctl.core.paths import App
from hostctl.host.boundary import peers, users
from hostctl.host.boundary.users import Child, User
from hostctl.host.host import Host
from hostctl.release import app_config
from hostctl.release.envfile import AGENT

KNOCK = 0.05  # seconds between two tries to have the instance connect


class Instance(NamedTuple):
    """An instance that runs, with the user and the control group of its processes."""

    app: App
    release: str
    user: User
    group: str


def source(name: str = AGENT) -> str:
    """The Erlang that an instance, or a console, evaluates."""
    from importlib.resources import files

    return (files("hostctl.instance") / name).read_text()


def find(app: App, release: str, host: Host) -> Instance:
    """The instance of a release. Raises HostError if it does not run."""
    group = host.systemd.control_group(app.unit(release))
    if not group:
        raise _unreachable(app, release, "it does not run")
    return Instance(app, release, users.find(app_config.load(app)["user"]), group)


def folder(app: App) -> Path:
    """The directory of root's in which each instance has its runtime directory."""
    return app.layout.root / f"run/homeport-{app.name}"


def name(release: str) -> str:
    """The name of an instance's socket beneath `folder`."""
    return f"{release}/agent"


def packet(request: str) -> bytes:
    """The bytes of a request: its length, then its text."""
    data = request.encode()
    return struct.pack(">I", len(data)) + data


def packets(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The packets of an answer, as kind and content; none after a connection that was reset."""
    with contextlib.suppress(ConnectionResetError):
        while len(head := stream.read(4)) == 4:
            data = stream.read(struct.unpack(">I", head)[0])
            yield data[:1].decode(), data[1:]


@contextlib.contextmanager
def _ask(instance: Instance, request: str) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Send a request; gives the packets of its answer. The caller is the app's user already.

    Raises HostError if the instance does not answer, or is not who listens.
    """
    with _send(instance, request) as connection, connection.makefile("rb") as stream:
        yield packets(stream)


def _send(instance: Instance, request: str) -> socket.socket:
    app, release = instance.app, instance.release
    try:
        connection = peers.connect(folder(app), name(release), instance.user, instance.group)
        # an agent that refuses us has closed before it is asked, or after: either is an answer without packets
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(packet(request))
    except OSError as error:
        raise _unreachable(app, release, (error.strerror or str(error)).lower()) from None
    return connection


def _unreachable(app: App, release: str, why: str) -> HostError:
    what = f"the live instance cannot be asked ({why})"
    fix = "deploy status tells whether it runs; one that was pushed by an older Homeport can be asked after deploy push"
    return HostError(what, str(folder(app) / name(release)), fix, FAILED)


def rpc(instance: Instance, expression: str, out: IO[bytes], err: IO[bytes], seconds: float | None = None) -> int:
    """Evaluate an expression in the instance. A child writes what it prints to `out` and `err`, so these are files.

    Returns its exit status. Raises HostError, also when it takes longer than `seconds`.
    """
    return users.run_as(instance.user, lambda: _rpc(instance, expression, out, err), seconds)


def _rpc(instance: Instance, expression: str, out: IO[bytes], err: IO[bytes]) -> int:
    with _ask(instance, f"rpc {expression}") as answers:
        for kind, content in answers:
            if kind == "s":
                return int(content)
            _write(out if kind == "o" else err, content, kind == "e")
    unit = instance.app.unit(instance.release)
    raise HostError("the instance ended before the expression did", unit, "deploy logs", FAILED)


def _write(stream: IO[bytes], content: bytes, line: bool) -> None:
    if content:
        stream.write(content + (b"\n" if line else b""))
        stream.flush()


def node(instance: Instance) -> str:
    """The node name of the instance. Raises HostError if it is not a node."""
    found = users.run_as(instance.user, lambda: _node(instance))
    if "@127." not in found:
        what = f"the live instance is no node that a console can reach ({found[:80]!r})"
        fix = "leave RELEASE_DISTRIBUTION and RELEASE_NODE in rel/env.sh.eex to Homeport, and push"
        raise HostError(what, instance.app.unit(instance.release), fix, FAILED)
    return found


def _node(instance: Instance) -> str:
    out = io.BytesIO()
    with _ask(instance, "node") as answers:
        for kind, content in answers:
            _write(out, content if kind == "o" else b"", False)
    return out.getvalue().decode()


def start_connecting(instance: Instance, peer: str, cookie: str, seconds: float) -> Child:
    """Begin to have the instance connect to a node on this host, which may not listen yet. Ends after so many seconds.

    The result of the child: whether the instance has connected.
    """
    return users.start_as(instance.user, lambda: _connecting(instance, peer, cookie, seconds))


def _connecting(instance: Instance, peer: str, cookie: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := _connect(instance, peer, cookie)) and time.monotonic() < deadline:
        time.sleep(KNOCK)
    return done


def _connect(instance: Instance, peer: str, cookie: str) -> bool:
    """Have the instance connect to a node that listens on this host; whether it did. Raises HostError."""
    with _ask(instance, f"connect {peer} {cookie}") as answers:
        return any(kind == "s" and int(content) == DONE for kind, content in answers)
