"""Sends requests to a live instance over the socket that agent.erl opens in its runtime directory.

The instance is a distributed node that listens on no port. Only the app's user and root can open the socket.
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hostctl.common.errors import DONE, FAILED, HostError
from hostctl.core.paths import App
from hostctl.release.envfile import AGENT

PATIENCE = 30.0  # seconds to connect and send a request


def source(name: str = AGENT) -> str:
    """The Erlang that an instance, or a console, evaluates."""
    from importlib.resources import files

    return (files("hostctl.instance") / name).read_text()


def address(app: App, release: str) -> Path:
    """The path of the socket."""
    return app.layout.root / f"run/homeport-{app.name}" / release / "agent"


def packet(request: str) -> bytes:
    """The bytes of a request: its length, then its text."""
    data = request.encode()
    return struct.pack(">I", len(data)) + data


def packets(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The packets of an answer, as kind and content."""
    while len(head := stream.read(4)) == 4:
        data = stream.read(struct.unpack(">I", head)[0])
        yield data[:1].decode(), data[1:]


@contextlib.contextmanager
def ask(app: App, release: str, request: str) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Send a request; gives the packets of its answer. Raises HostError if the instance does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(PATIENCE)
            connection.connect(str(address(app, release)))
            connection.settimeout(None)
            connection.sendall(packet(request))
        except OSError as error:
            raise _unreachable(app, release, error) from None
        with connection.makefile("rb") as stream:
            yield packets(stream)


def _unreachable(app: App, release: str, error: OSError) -> HostError:
    what = f"the live instance cannot be asked ({(error.strerror or str(error)).lower()})"
    fix = "deploy status tells whether it runs; one that was pushed by an older Homeport can be asked after deploy push"
    return HostError(what, str(address(app, release)), fix, FAILED)


def rpc(app: App, release: str, expression: str, out: IO[bytes], err: IO[bytes]) -> int:
    """Evaluate an expression in the instance, what it writes to `out`; returns its exit status. Raises HostError."""
    with ask(app, release, f"rpc {expression}") as answers:
        for kind, content in answers:
            if kind == "s":
                return int(content)
            _write(out if kind == "o" else err, content, kind == "e")
    raise HostError("the instance ended before the expression did", app.unit(release), "deploy logs", FAILED)


def _write(stream: IO[bytes], content: bytes, line: bool) -> None:
    if content:
        stream.write(content + (b"\n" if line else b""))
        stream.flush()


def node(app: App, release: str) -> str:
    """The node name of the instance. Raises HostError if it is not a node."""
    out = io.BytesIO()
    with ask(app, release, "node") as answers:
        for kind, content in answers:
            _write(out, content if kind == "o" else b"", False)
    found = out.getvalue().decode()
    if "@127." not in found:
        what = f"the live instance is no node that a console can reach ({found[:80]!r})"
        fix = "leave RELEASE_DISTRIBUTION and RELEASE_NODE in rel/env.sh.eex to Homeport, and push"
        raise HostError(what, app.unit(release), fix, FAILED)
    return found


def connect(app: App, release: str, peer: str, cookie: str) -> bool:
    """Have the instance connect to a node that listens on this host; whether it did. Raises HostError."""
    with ask(app, release, f"connect {peer} {cookie}") as answers:
        return any(kind == "s" and int(content) == DONE for kind, content in answers)
