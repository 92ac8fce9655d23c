"""A way from a port of this machine to what listens on the host alone: the instance, or PostgreSQL's socket."""

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
PORT = 15432  # here, unless another is asked for: 5432 may be a server of one's own
OPEN = "open"
_ELSEWHERE = {
    "sqlite": ("SQLite is a file, which nothing can be connected to", "deploy db console"),
    "external": ("the database is on a server elsewhere", "connect to the URL that the app has"),
    "none": ("there is no database", "set database.engine: postgres in deploy.yml"),
}


@dataclass(frozen=True)
class Way:
    """From `port` here to `there` on the host, which is a port (`127.0.0.1:4000`) or the path of a socket.

    `verb` is what opens it, for errors.
    """

    port: int
    there: str
    verb: str


def postgres(session: Session, port: int) -> Way:
    """To the app's PostgreSQL. Raises HomeportError as `require` does."""
    require(session)
    return Way(port, f"/run/homeport-{session.app}-postgres/.s.PGSQL.5432", "deploy db tunnel")


def instance(session: Session, local: int | None) -> Way:
    """To the live instance itself, past the edge. Raises HomeportError when nothing is live."""
    live = session.hostctl.call("status")["live"] or {}
    if not (port := live.get("port")):
        raise HomeportError(f"nothing of {session.app} is live", session.target.host, "deploy push")
    return loopback(port, local)


def loopback(port: int, local: int | None) -> Way:
    """To a port of the host's own loopback network; from the same number here, unless another is given."""
    return Way(local or port, f"{LOCAL}:{port}", "deploy tunnel")


def require(session: Session) -> None:
    """Raises HomeportError (usage) for an app whose database is no PostgreSQL of Homeport's."""
    engine = session.loaded.config.database.engine
    if engine in _ELSEWHERE:
        why, fix = _ELSEWHERE[engine]
        what = f"{session.app} has no PostgreSQL on its host: {why}"
        raise HomeportError(what, "database.engine in deploy.yml", fix, ExitCode.USAGE)


def lines(session: Session, port: int) -> list[str]:
    """What attaches: for psql, and as a URL."""
    name = database_name(session.loaded.config)
    return [
        f'psql "host={LOCAL} port={port} user={session.app} dbname={name}"',
        f"postgres://{session.app}@{LOCAL}:{port}/{name}",
    ]


def argv(session: Session, way: Way) -> list[str]:
    """ssh with the one forwarding, on a connection of its own: over a shared one it would outlive this command."""
    target = session.target
    own = ["ControlPath=none", "ExitOnForwardFailure=yes", "PermitLocalCommand=yes", f"LocalCommand=echo {OPEN}"]
    settings = [part for one in own for part in ("-o", one)]
    forward = ["-L", f"{LOCAL}:{way.port}:{way.there}"]
    return ["ssh", "-N", "-T", *settings, *connection.options(target), *forward, f"{target.user}@{target.host}"]


def hold(session: Session, way: Way, on_open: Callable[[], None]) -> None:
    """Keep the way open until Ctrl-C or a signal to end; `on_open` is called once it stands.

    Raises HomeportError: usage for a port that is taken here, and when the connection fails or ends.
    """
    free(way)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _held(session, way, on_open)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def free(way: Way) -> None:
    """Raises HomeportError (usage) when the port here cannot be listened on."""
    with socket.socket() as probe:
        # a server that has just ended leaves its port in TIME_WAIT, which ssh does not mind either
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, way.port))
        except OSError as error:
            raise _taken(way, (error.strerror or str(error)).lower()) from None


def _taken(way: Way, why: str) -> HomeportError:
    what = f"port {way.port} of this machine cannot be used: {why}"
    return HomeportError(what, f"{LOCAL}:{way.port}", f"{way.verb}, with another port", ExitCode.USAGE)


def _held(session: Session, way: Way, on_open: Callable[[], None]) -> None:
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(argv(session, way), stdin=none, stdout=pipe, stderr=said, text=True) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            if stood := process.stdout.readline().strip() == OPEN:
                on_open()
            process.wait()
        finally:
            process.terminate()
            process.wait()
        said.seek(0)
        raise _ended(session, said.read().decode(errors="replace"), way, stood)


def _ended(session: Session, said: str, way: Way, stood: bool) -> HomeportError:
    if "address already in use" in said.lower():
        return _taken(way, "address already in use")
    if stood:
        return HomeportError("the connection to the host ended", str(session.target), f"{way.verb} again")
    return connection.refused(str(session.target), said)
