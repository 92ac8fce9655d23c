"""A server on a data directory beside the live one: to bring a copy to an instant, and to look into it.

It has a socket of its own, little memory, and ends with this process, however that ends. It archives nothing.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hostctl.common.errors import HostError
from hostctl.common.files import unlink
from hostctl.core.paths import App
from hostctl.postgres.archive import pgbackrest
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Server

POLL = 0.05  # seconds
STOP = 600.0  # seconds that the last checkpoint may take
LEFT = 60.0  # seconds that the server of a killed run may take to end
SHOWN = 5  # lines of PostgreSQL's own
STATUS = 7  # the line of postmaster.pid that says whether sessions are let in, from 0
MEMORY = {"shared_buffers": "64MB", "huge_pages": "off", "max_worker_processes": "8", "jit": "off", "autovacuum": "off"}
ALONE = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "ssl": "off",
    "hot_standby": "off",  # nobody is let in before recovery has ended; nor need the limits be those of the live server
    "primary_conninfo": "",
    "synchronous_standby_names": "",
    "restart_after_crash": "off",
    "external_pid_file": "",
    "archive_command": "",
    "archive_library": "",
}
TOLD = {
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_line_prefix": "",
    "lc_messages": "C",
}

ENDED = "recovery ended before configured recovery target was reached"

# what PostgreSQL says when it cannot bring the data to the wanted instant: what that means, and what to do
MEANINGS = {
    ENDED: (
        "the archive ends before the instant that was asked for",
        "deploy backup list tells what there is; name an earlier time",
    ),
    "requested recovery stop point is before consistent recovery point": (
        "the instant that was asked for is before the base backup was complete",
        "deploy backup list tells what there is; name a later time",
    ),
    "No space left on device": (
        "the disk is full",
        "free some space on the host (df -h), and try again",
    ),
    "checkpoint record": (
        "the archive lacks the beginning of the base backup's log",
        "deploy backup drill tells what is sound; restore another time",
    ),
}
GRAVE = re.compile(r"(FATAL|PANIC|ERROR):\s+")


@contextmanager
def server(
    app: App, directory: Path, archive: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server on `directory`, once its recovery, which `settings` describe, has ended; stopped clean afterwards.

    With `archive` its data is to be the live one's: what it writes is safe against a power cut, and its log is kept for
    the live server to archive. Raises HostError with PostgreSQL's own words.
    """
    remove_leftovers(directory)
    with tempfile.TemporaryDirectory(prefix="homeport-") as name:
        own = Path(name)
        if os.geteuid() == 0:
            shutil.chown(own, cluster.SUPERUSER, cluster.SUPERUSER)
        log = own / "log"
        process = _started(directory, log, _options(app, directory, own, archive) | dict(settings or {}))
        try:
            _recovered(process, directory, log)
            yield Server(programs(directory), directory, own)
            _stopped(process, log, directory)
        finally:
            _ended(process)


@contextmanager
def recovered(
    app: App, directory: Path, settings: Mapping[str, str], archive: bool = False
) -> Iterator[tuple[Server, bool]]:
    """As `server`, also where the log ends before the wanted time: then it is brought to the end of the log.

    Gives the server, and whether the time was reached. Raises HostError.
    """
    with ExitStack() as stack:
        try:
            found = stack.enter_context(server(app, directory, archive, settings))
        except HostError as error:
            if ENDED not in error.what or "recovery_target_time" not in settings:
                raise
            found = stack.enter_context(server(app, directory, archive, pgbackrest.without_target(settings)))
            yield found, False
        else:
            yield found, True


def _started(directory: Path, log: Path, options: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with open(log, "wb", opener=_private) as output:
        return subprocess.Popen(
            _command(directory, options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=cluster.environment(),
            start_new_session=True,
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _options(app: App, directory: Path, socket: Path, archive: bool) -> dict[str, str]:
    return {
        # the app's own: extensions that are loaded at the start, and who may come in
        "config_file": str(app.database.with_name("postgresql.conf")),
        "data_directory": str(directory),
        "unix_socket_directories": str(socket),
        "archive_mode": "on" if archive else "off",
        "fsync": "on" if archive else "off",
        **ALONE,
        **MEMORY,
        **TOLD,
    }


def programs(data: Path) -> Path:
    """The programs of the major version that made the data, which need not be the live server's. Raises HostError."""
    found = cluster.VERSIONS / str(cluster.data_major(data)) / "bin"
    if not (found / "postgres").exists():
        version = found.parent.name
        raise HostError(f"PostgreSQL {version} is not installed", str(found), f"apt-get install postgresql-{version}")
    return found


def _command(directory: Path, options: Mapping[str, str]) -> list[str]:
    told = [item for name, value in options.items() for item in ("-c", f"{name}={value}")]
    command = cluster.as_postgres([programs(directory) / "postgres", "-D", directory, *told])
    # after the change of user, which would forget it
    return ["setpriv", "--pdeathsig=QUIT", *(command[1:] if command[0] == "setpriv" else ["--", *command])]


# ---------------------------------------------------------------------------------------------- how it goes


def _recovered(process: subprocess.Popen[bytes], directory: Path, log: Path) -> None:
    """Wait until sessions are let in. However long recovery takes: as long as the server runs, it gets on."""
    while _status(directory) != "ready":
        if process.poll() is not None:
            raise server_error(log.read_text(errors="replace"), directory)
        time.sleep(POLL)


def _status(directory: Path) -> str:
    try:
        return (directory / "postmaster.pid").read_text().splitlines()[STATUS].strip()
    except (OSError, IndexError):
        return ""


def _stopped(process: subprocess.Popen[bytes], log: Path, directory: Path) -> None:
    """Stop it with a checkpoint, so that there is nothing to recover."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        raise HostError(f"the server beside did not stop within {STOP:g} s", str(directory), "try again") from None
    if process.returncode != 0:
        raise server_error(log.read_text(errors="replace"), directory)


def _ended(process: subprocess.Popen[bytes]) -> None:
    """At once, whatever it does: when this is needed its data is worth nothing."""
    if process.poll() is None:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(LEFT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def server_error(log: str, directory: Path) -> HostError:
    """Why a server ended, by what it wrote."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    grave = [line for line in lines if GRAVE.search(line)] or lines
    shown = "\n".join(grave[-SHOWN:]) or "it said nothing"
    for words, (what, fix) in MEANINGS.items():
        if any(words in line for line in grave):
            return HostError(f"{what}; PostgreSQL says:\n{shown}", str(directory), fix)
    what = f"PostgreSQL cannot run on the copy; it says:\n{shown}"
    return HostError(what, str(directory), "deploy backup drill tells what is sound; restore another time")


# ---------------------------------------------------------------------------------------------- what a killed run left


def remove_leftovers(directory: Path) -> None:
    """End the server that a killed run may have left on the directory, and remove its lock file. Idempotent."""
    server = Server(Path(), directory, Path())
    pid = cluster.postmaster_pid(server)
    # another process may have got the number since; a server's working directory is its data
    if pid is not None and _works_in(pid, directory):
        _end(pid)
    if (directory / "postmaster.pid").exists():
        unlink(directory / "postmaster.pid")


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except OSError:
        return False


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            for how in (signal.SIGQUIT, signal.SIGKILL):
                signal.pidfd_send_signal(handle, how)
                if select.select([handle], [], [], LEFT)[0]:
                    return
        finally:
            os.close(handle)
