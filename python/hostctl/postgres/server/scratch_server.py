"""A temporary server on another data directory than the live one, to recover a copy to an instant and to query it.

It has a socket of its own and little memory, and it archives nothing. It runs in the confinement of `walls`, and ends
when this process's unit ends for any reason. No setting that names a program, a library or a file is taken from the
copy.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hostctl.common.errors import HostError
from hostctl.common.files import unlink
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.server import cluster, walls
from hostctl.postgres.server.cluster import Server

POLL = 0.05  # seconds
KILL = 60.0  # seconds that a server may take to end after a signal
SHOWN = 5  # lines of PostgreSQL's log in an error
STATUS_LINE = 7  # of postmaster.pid, counted from 0: whether the server accepts sessions
MEMORY = {"shared_buffers": "64MB", "huge_pages": "off", "max_worker_processes": "8", "jit": "off", "autovacuum": "off"}
ISOLATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "ssl": "off",
    "hot_standby": "off",  # no session during recovery, so the limits may be lower than the live server's
    "primary_conninfo": "",
    "synchronous_standby_names": "",
    "restart_after_crash": "off",
    "external_pid_file": "",
    "archive_command": "",
    "archive_library": "",
    # the copy has a postgresql.auto.conf, and may have signal files, of whoever could write to the data
    "restore_command": "",
    "recovery_end_command": "",
    "archive_cleanup_command": "",
    "ssl_passphrase_command": "",
}
# what only postgresql.conf may say, which root wrote; and the value where it says nothing
CONFIGURED = {
    "hba_file": "",
    "ident_file": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "dynamic_library_path": "$libdir",
    "jit_provider": "llvmjit",
}
LINE = re.compile(r"^\s*(\w+)\s*=?\s*'((?:[^']|'')*)'", re.MULTILINE)
LOGGING = {
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_line_prefix": "%e ",  # the SQLSTATE
    "lc_messages": "C",
}

DISK_FULL = "53100"
DISK_IS_FULL = ("the disk is full", "free some space on the host (df -h), and try again")
# of a recovery that has read all WAL before the target: PostgreSQL has no SQLSTATE for that alone
UNCLASSIFIED = ("XX000", "F0000")
TARGETS = ("recovery_target_time", "recovery_target_name", "recovery_target_lsn")
ENDED_BEFORE = "SELECT coalesce(pg_last_xact_replay_timestamp() <= :'target'::timestamptz, true)"

# what an error of a recovery means, and the fix. These have no SQLSTATE: the words choose the explanation, nothing else
EXPLANATIONS = {
    "recovery ended before configured recovery target was reached": (
        "the archive ends before the requested instant",
        "choose an earlier time: deploy backup list shows what can be restored",
    ),
    "requested recovery stop point is before consistent recovery point": (
        "the requested instant is before the end of the base backup",
        "choose a later time: deploy backup list shows what can be restored",
    ),
    "No space left on device": DISK_IS_FULL,  # of a restore_command
    "checkpoint record": (
        "the archive lacks the first WAL of the base backup",
        "restore another time: deploy backup drill shows up to when the backup is sound",
    ),
}
SEVERE = re.compile(r"(FATAL|PANIC|ERROR):\s+")
PREFIX = re.compile(rf"({cluster.SQLSTATE}) (?=[A-Z0-9]+:  )")  # of a line of the log


@contextmanager
def server(
    app: App, host: Host, directory: Path, archive: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server on `directory`, after the recovery that `settings` describe; it is shut down cleanly at the end.

    With `archive` its data becomes the live data: writes are durable, and WAL is kept for the live server to archive.
    Raises HostError with PostgreSQL's errors; its `reason` is the SQLSTATE of the last one.
    """
    remove_leftovers(app, host, directory)
    unit = walls.unit(app, directory.name)
    socket = app.cluster_socket.with_name(unit.removesuffix(".service"))
    with tempfile.TemporaryDirectory(prefix="homeport-") as name:
        log = Path(name) / "log"
        options = _options(app, directory, socket, archive) | dict(settings or {})
        process = _start(app, host, unit, directory, log, options)
        try:
            _wait_until_ready(process, directory, log)
            yield Server(programs(directory), directory, socket)
            _shut_down(host, unit, process, log, directory)
        finally:
            _quit(host, unit, process)


@contextmanager
def recovered(
    app: App, host: Host, directory: Path, settings: Mapping[str, str], archive: bool = False
) -> Iterator[tuple[Server, bool]]:
    """As `server`, but where the WAL ends before the target time, recovery goes to the end of the WAL.

    Yields the server, and whether the target time was reached. Raises HostError.
    """
    target = settings.get("recovery_target_time")
    with ExitStack() as stack:
        try:
            copy, reached = stack.enter_context(server(app, host, directory, archive, settings)), True
        except HostError as error:
            if target is None or error.reason not in UNCLASSIFIED:
                raise
            copy, reached = stack.enter_context(server(app, host, directory, archive, without_target(settings))), False
            if not _ended_before(copy, target):
                raise  # the WAL goes beyond the target: recovery failed for another reason
        yield copy, reached


def _ended_before(server: Server, target: str) -> bool:
    """Whether no transaction that recovery replayed is later than the target time."""
    return cluster.administer(server, ENDED_BEFORE, bound={"target": target}) == [["t"]]


def without_target(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a recovery to the end of the WAL."""
    return {name: value for name, value in settings.items() if name not in TARGETS}


def _start(
    app: App, host: Host, unit: str, directory: Path, log: Path, options: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    arguments = [item for name, value in options.items() for item in ("-c", f"{name}={value}")]
    argv = [str(programs(directory) / "postgres"), "-D", str(directory), *arguments]
    properties = walls.properties(app, host, [directory], network=bool(options["restore_command"]))
    properties += [f"RuntimeDirectory={unit.removesuffix('.service')}", "RuntimeDirectoryMode=0700"]
    with open(log, "wb", opener=_private) as output:
        return host.systemd.attach(unit, argv, properties, output)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _options(app: App, directory: Path, socket: Path, archive: bool) -> dict[str, str]:
    return {
        # the app's configuration: extensions that are loaded at the start, and access rules
        "config_file": str(app.database.with_name("postgresql.conf")),
        "data_directory": str(directory),
        "unix_socket_directories": str(socket),
        "archive_mode": "on" if archive else "off",
        "fsync": "on" if archive else "off",
        **_configured(app),
        **ISOLATION,
        **MEMORY,
        **LOGGING,
    }


def _configured(app: App) -> dict[str, str]:
    """The values of CONFIGURED in the app's postgresql.conf."""
    text = app.database.with_name("postgresql.conf").read_text()
    found = {name: value.replace("''", "'") for name, value in LINE.findall(text)}
    return {name: found.get(name, default) for name, default in CONFIGURED.items()}


def programs(data: Path) -> Path:
    """The directory of the programs of the data's major version, which may differ from the live server's.

    Raises HostError when they are not installed.
    """
    version = cluster.data_major(data)
    directory = cluster.VERSIONS / str(version) / "bin"
    if not (directory / "postgres").exists():
        raise HostError(
            f"PostgreSQL {version} is not installed", str(directory), f"apt-get install postgresql-{version}"
        )
    return directory


# ---------------------------------------------------------------------------------------------- lifecycle


def _wait_until_ready(process: subprocess.Popen[bytes], directory: Path, log: Path) -> None:
    """Wait until the server accepts sessions, without a time limit: recovery of a large database takes long."""
    while _status(directory) != "ready":
        if process.poll() is not None:
            raise server_error(log.read_text(errors="replace"), directory)
        time.sleep(POLL)


def _status(directory: Path) -> str:
    try:
        return cluster.read_text(directory / "postmaster.pid").splitlines()[STATUS_LINE].strip()
    except (OSError, IndexError):
        return ""


def _shut_down(host: Host, unit: str, process: subprocess.Popen[bytes], log: Path, directory: Path) -> None:
    """Shut the server down with a checkpoint, so that its next start has nothing to recover."""
    host.systemd.stop(unit)
    try:
        process.wait(KILL)
    except subprocess.TimeoutExpired:
        what = f"the temporary server did not stop within {walls.STOP} s"
        raise HostError(what, str(directory), "try again") from None
    if process.returncode != 0:
        raise server_error(log.read_text(errors="replace"), directory)


def _quit(host: Host, unit: str, process: subprocess.Popen[bytes]) -> None:
    """End a server that still runs, at once: its data is not used after a failure."""
    for signal_name in ("SIGQUIT", "SIGKILL"):
        if process.poll() is not None:
            return
        host.systemd.kill(unit, signal_name)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL)


def server_error(log: str, directory: Path) -> HostError:
    """The error of a server that ended, from its log. `reason` is the SQLSTATE of the last error, if it has one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    severe = [line for line in lines if SEVERE.search(line)] or lines
    states = [match[1] for line in severe if (match := PREFIX.match(line))]
    shown = "\n".join(PREFIX.sub("", line, count=1) for line in severe[-SHOWN:]) or "it wrote no message"
    what, fix = DISK_IS_FULL if DISK_FULL in states else _explain(severe)
    return HostError(f"{what}; PostgreSQL reports:\n{shown}", str(directory), fix, reason=(states or [""])[-1])


def _explain(errors: Sequence[str]) -> tuple[str, str]:
    """What the errors mean, and the fix."""
    known = (explanation for words, explanation in EXPLANATIONS.items() if any(words in line for line in errors))
    fix = "restore another time: deploy backup drill shows up to when the backup is sound"
    return next(known, ("PostgreSQL cannot run on the copy", fix))


# ---------------------------------------------------------------------------------------------- leftovers


def remove_leftovers(app: App, host: Host, directory: Path) -> None:
    """End the server that a killed run may have left on the directory, and remove its lock file. Idempotent."""
    unit = walls.unit(app, directory.name)
    if host.systemd.show(unit)[0].runs:
        host.systemd.kill(unit, "SIGQUIT")
        host.systemd.stop(unit)
    server = Server(Path(), directory, Path())
    pid = cluster.postmaster_pid(server)
    # the process id may have been reused; a server's working directory is its data directory
    if pid is not None and _runs_in(pid, directory):
        _end(pid)
    if (directory / "postmaster.pid").exists():
        unlink(directory / "postmaster.pid")


def _runs_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except OSError:
        return False


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            for signal_number in (signal.SIGQUIT, signal.SIGKILL):
                signal.pidfd_send_signal(handle, signal_number)
                if select.select([handle], [], [], KILL)[0]:
                    return
        finally:
            os.close(handle)
