"""A way from a port of this machine to the app's PostgreSQL, which listens on its host's Unix socket alone."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable

from homeport import ssh
from homeport.config.hostvars import database_name
from homeport.errors import ExitCode, HomeportError
from homeport.session import Session

LOCAL = "127.0.0.1"
PORT = 15432  # here, unless another is asked for: 5432 may be a server of one's own
OPEN = "open"
_ELSEWHERE = {
    "sqlite": ("SQLite is a file, which nothing can be connected to", "deploy db console"),
    "external": ("the database is on a server elsewhere", "connect to the URL that the app has"),
    "none": ("there is no database", "set database.engine: postgres in deploy.yml"),
}


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


def argv(session: Session, port: int) -> list[str]:
    """ssh with the one forwarding, on a connection of its own: over a shared one it would outlive this command."""
    target = session.target
    there = f"/run/homeport-{session.app}-postgres/.s.PGSQL.5432"
    own = ["ControlPath=none", "ExitOnForwardFailure=yes", "PermitLocalCommand=yes", f"LocalCommand=echo {OPEN}"]
    settings = [part for one in own for part in ("-o", one)]
    way = ["-L", f"{LOCAL}:{port}:{there}"]
    return ["ssh", "-N", "-T", *settings, *ssh.options(target), *way, f"{target.user}@{target.host}"]


def hold(session: Session, port: int, on_open: Callable[[], None]) -> None:
    """Keep the way open until Ctrl-C or a signal to end; `on_open` is called once it stands.

    Raises HomeportError: usage for a port that is taken here, and when the connection fails or ends.
    """
    _free(port)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _held(session, argv(session, port), port, on_open)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _free(port: int) -> None:
    with socket.socket() as probe:
        # a server that has just ended leaves its port in TIME_WAIT, which ssh does not mind either
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, port))
        except OSError as error:
            raise _taken(port, (error.strerror or str(error)).lower()) from None


def _taken(port: int, why: str) -> HomeportError:
    what = f"port {port} of this machine cannot be used: {why}"
    return HomeportError(what, f"{LOCAL}:{port}", "deploy db tunnel PORT, with another port", ExitCode.USAGE)


def _held(session: Session, words: list[str], port: int, on_open: Callable[[], None]) -> None:
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdin=none, stdout=pipe, stderr=said, text=True) as process,
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
        raise _ended(session, said.read().decode(errors="replace"), port, stood)


def _ended(session: Session, said: str, port: int, stood: bool) -> HomeportError:
    if "address already in use" in said.lower():
        return _taken(port, "address already in use")
    if stood:
        return HomeportError("the connection to the host ended", str(session.target), "deploy db tunnel again")
    return ssh.refused(str(session.target), said)
