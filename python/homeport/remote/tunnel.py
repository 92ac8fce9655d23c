"""Forwards a port of this machine to a port or socket that only the host itself can reach, over SSH."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from homeport.config.hostvars import database_name
from homeport.core.errors import ExitCode, HomeportError
from homeport.remote.session import Session
from homeport.ssh import connection

LOCAL = "127.0.0.1"
PORT = 15432  # the default local port; a local server may have 5432
OPEN = "open"
FOREIGN = "foreign"  # `listener` in hostctl's status
_NO_POSTGRES = {
    "sqlite": ("SQLite is a file, which has no server to connect to", "deploy db console"),
    "external": ("the database is on an external server", "connect to the URL that the app has"),
    "none": ("there is no database", "set database.engine: postgres in deploy.yml"),
}


@dataclass(frozen=True)
class Forwarding:
    """A forwarding from the local `port` to `remote` on the host: `127.0.0.1:4000`, or the path of a socket.

    `verb` is the command that opens it, for errors.
    """

    port: int
    remote: str
    verb: str


def postgres(session: Session, port: int) -> Forwarding:
    """The forwarding to the app's PostgreSQL. Raises HomeportError as `require` does."""
    require(session)
    return Forwarding(port, f"/run/homeport-{session.app}-postgres/.s.PGSQL.5432", "deploy db tunnel")


def instance(session: Session, local: int | None) -> Forwarding:
    """The forwarding to the live instance, bypassing the edge.

    Raises HomeportError if nothing is live, or if a process that is not the instance's listens on its port.
    """
    live = session.hostctl.call("status")["live"] or {}
    if not (port := live.get("port")):
        raise HomeportError(f"nothing of {session.app} is live", session.target.host, "deploy push")
    if live.get("listener") == FOREIGN:
        what = f"a process that is not of {live['instance']} listens on its port {port}"
        raise HomeportError(what, session.target.host, "on the host: ss -ltnp tells which process it is")
    return loopback(port, local)


def loopback(port: int, local: int | None) -> Forwarding:
    """The forwarding to a port of the host's loopback network, from `local` or the same number."""
    return Forwarding(local or port, f"{LOCAL}:{port}", "deploy tunnel")


def require(session: Session) -> None:
    """Raises HomeportError (usage) for an app without a PostgreSQL on its host."""
    engine = session.loaded.config.database.engine
    if engine in _NO_POSTGRES:
        why, fix = _NO_POSTGRES[engine]
        what = f"{session.app} has no PostgreSQL on its host: {why}"
        raise HomeportError(what, "database.engine in deploy.yml", fix, ExitCode.USAGE)


def lines(session: Session, port: int) -> list[str]:
    """The command of psql and the URL that connect through the tunnel."""
    name = database_name(session.loaded.config)
    return [
        f'psql "host={LOCAL} port={port} user={session.app} dbname={name}"',
        f"postgres://{session.app}@{LOCAL}:{port}/{name}",
    ]


def argv(session: Session, forwarding: Forwarding) -> list[str]:
    """The ssh command of the forwarding. Its connection is not shared: a shared one would keep the port open."""
    target = session.target
    own = ["ControlPath=none", "ExitOnForwardFailure=yes", "PermitLocalCommand=yes", f"LocalCommand=echo {OPEN}"]
    settings = [part for one in own for part in ("-o", one)]
    forward = ["-L", f"{LOCAL}:{forwarding.port}:{forwarding.remote}"]
    return ["ssh", "-N", "-T", *settings, *connection.options(target), *forward, f"{target.user}@{target.host}"]


def hold(session: Session, forwarding: Forwarding, on_open: Callable[[], None]) -> None:
    """Keep the tunnel open until Ctrl-C or SIGTERM; `on_open` is called once it is open.

    Raises HomeportError (usage) if the local port is in use, and HomeportError if the connection fails or ends.
    """
    require_free(forwarding)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run_until_end(session, forwarding, on_open)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def require_free(forwarding: Forwarding) -> None:
    """Raises HomeportError (usage) if the local port cannot be listened on."""
    with socket.socket() as probe:
        # a server that has just ended leaves its port in TIME_WAIT, in which ssh can listen, too
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, forwarding.port))
        except OSError as error:
            raise _port_error(forwarding, (error.strerror or str(error)).lower()) from None


def _port_error(forwarding: Forwarding, why: str) -> HomeportError:
    what = f"port {forwarding.port} of this machine cannot be used: {why}"
    return HomeportError(what, f"{LOCAL}:{forwarding.port}", f"run {forwarding.verb} with another port", ExitCode.USAGE)


def _run_until_end(session: Session, forwarding: Forwarding, on_open: Callable[[], None]) -> None:
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(argv(session, forwarding), stdin=none, stdout=pipe, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            if opened := process.stdout.readline().strip() == OPEN:
                on_open()
            process.wait()
        finally:
            process.terminate()
            process.wait()
        stderr.seek(0)
        raise _end_error(session, stderr.read().decode(errors="replace"), forwarding, opened)


def _end_error(session: Session, stderr: str, forwarding: Forwarding, opened: bool) -> HomeportError:
    if "address already in use" in stderr.lower():
        return _port_error(forwarding, "address already in use")
    if opened:
        return HomeportError("the connection to the host ended", str(session.target), f"run {forwarding.verb} again")
    return connection.failure(str(session.target), stderr)
