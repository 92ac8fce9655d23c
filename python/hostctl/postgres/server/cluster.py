"""An app's PostgreSQL cluster: its settings, and how its server is queried, created, started and stopped.

Each app has one data directory, in /var/lib/postgresql/homeport/APP. Root owns that directory, so only root can rename
entries in it; the server owns `data`. `bin` is a link to the programs of the data's major version.
"""

from __future__ import annotations

import csv
import io
import os
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from hostctl.backup import settings
from hostctl.backup.settings import Backup
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import make_directory, point, read_json, remove_tree, write_atomic
from hostctl.common.names import checked
from hostctl.core.paths import App
from hostctl.host.boundary import users
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.host.host import Host

T = TypeVar("T")
SUPERUSER = "postgres"  # the user of the system, and the role
MONITOR = "homeport_monitor"  # reads the server's state and writes hostctl's numbered rows; no more (see roles)
READER = "homeport_reader"  # reads the app's data, for copies and comparisons; no more than the app itself otherwise
VERSIONS = Path("/usr/lib/postgresql")  # where Debian puts each major version
RECOVERY = 3600.0  # seconds that a start may take, including recovery after a crash
INITDB = 600.0  # seconds
POLL = 0.1  # seconds
SQLSTATE = "[0-9A-Z]{5}"
OBJECT_IN_USE = "55006"  # the SQLSTATE of a statement that open sessions block
LOCALE = "C.UTF-8"  # sorts by code point in every version of the C library, so an update never damages an index
# What a session of hostctl's own roles sets by itself (PGOPTIONS): settings of a connection precede those of ALTER
# DATABASE and ALTER ROLE, so nothing that the app has set there reaches it. Without a search_path only pg_catalog is
# searched, for functions, operators and casts as well.
ALWAYS = {
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    "client_min_messages": "warning",
}
GUARD = {
    "search_path": "",
    "role": "none",
    # what a policy hides is an error, and not a row less
    "row_security": "off",
    "local_preload_libraries": "",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "default_tablespace": "",
    "temp_tablespaces": "",
    "default_table_access_method": "heap",
}
SUPERUSER_GUARD = {"session_preload_libraries": "", "session_replication_role": "origin"}
EVENT_TRIGGERS = 17  # the first major version that has the setting event_triggers
FIX_PARAMETERS = "correct database.parameters in deploy.yml; then deploy provision"
PENDING = "SELECT name FROM pg_settings WHERE pending_restart ORDER BY name"


Sleep = Callable[[float], None]


class Server(NamedTuple):
    """A server. `socket` is the directory of its socket; the port is 5432, which is part of the socket's name."""

    bin: Path
    data: Path
    socket: Path


class Cluster(NamedTuple):
    """The settings that provisioning wrote. `user` is the app's role and system user, `name` its database.

    `lock_timeout` in seconds, for migrations.
    """

    user: str
    name: str
    pool: int
    lock_timeout: float
    backup: Backup | None


def load(app: App) -> Cluster | None:
    """The settings that provisioning wrote; None for an app without a cluster. Raises HostError (usage)."""
    document = read_json(app.database)
    if document is None or document.get("engine") != "postgres":
        return None
    try:
        backup = settings.parse_backup(document["backup"]) if document.get("backup") else None
        user, name = str(document["user"]), str(document["name"])
        return Cluster(user, name, int(document["pool"]), float(document["lock_timeout"]), backup)
    except (KeyError, TypeError, ValueError) as error:
        what = f"database.json cannot be read: {type(error).__name__}: {error}"
        raise HostError(what, str(app.database), "deploy provision", USAGE) from None


def require(app: App) -> Cluster:
    """As `load`, but raises HostError (usage) for an app without a cluster."""
    config = load(app)
    if config is None:
        fix = "set database.engine: postgres, and run deploy provision"
        raise HostError(f"{app.name} has no PostgreSQL", "database in deploy.yml", fix, USAGE)
    return config


def live_server(app: App) -> Server:
    """The app's server, whether it runs or not."""
    return Server(app.cluster_bin, app.cluster_data, app.cluster_socket)


# ---------------------------------------------------------------------------------------------- programs


def run_as_postgres(
    argv: Sequence[str | Path],
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    cwd: Path = Path("/"),
) -> subprocess.CompletedProcess[str]:
    """Run a program as the user postgres, with `text` on its standard input. The caller checks the exit status.

    Its environment is `env`, PATH and the locale. Raises subprocess.TimeoutExpired.
    """
    return subprocess.run(
        as_postgres(argv),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
        env={**environment(), **(env or {})},
        input=text if text is not None else "",
        cwd=cwd,
    )


def as_postgres(argv: Sequence[str | Path]) -> list[str]:
    """The command that runs `argv` as the user postgres: through setpriv for root, else as the current user."""
    become = ["setpriv", f"--reuid={SUPERUSER}", f"--regid={SUPERUSER}", "--init-groups", "--inh-caps=-all"]
    become += ["--no-new-privs", "--"]
    return [*(become if os.geteuid() == 0 else []), *(str(argument) for argument in argv)]


def environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs: English messages, and no PG variable of this process."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": LOCALE, "LANGUAGE": "C", "PGCLIENTENCODING": "UTF8"}


def client_environment() -> dict[str, str]:
    """The environment of a client of an app's server: it refuses a socket on which another user listens."""
    return {**environment(), "PGREQUIREPEER": SUPERUSER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name}


def installed_majors() -> list[int]:
    """The major versions whose server is installed, oldest first."""
    return sorted(int(program.parent.parent.name) for program in VERSIONS.glob("[0-9]*/bin/postgres"))


def data_major(data: Path) -> int:
    """The major version of a data directory. Raises HostError for any other directory."""
    try:
        return int(read_text(data / "PG_VERSION"))
    except (OSError, ValueError) as error:
        raise HostError(f"no PostgreSQL data: {type(error).__name__}", str(data), "deploy backup status") from None


def use_version(app: App, version: int) -> None:
    """Let the app's server use the programs of that major version. Raises HostError when they are not installed."""
    if version not in installed_majors():
        fix = f"apt-get install postgresql-{version}"
        raise HostError(f"PostgreSQL {version} is not installed", str(VERSIONS), fix)
    make_directories(app)
    target = str(VERSIONS / str(version) / "bin")
    if not app.cluster_bin.is_symlink() or app.cluster_bin.readlink() != Path(target):
        point(app.cluster_bin, target)


def make_directories(app: App) -> None:
    """Make the directory of the app's cluster: root owns it, and the user postgres may enter it."""
    # Debian gives /var/lib/postgresql to the user postgres, at each update as well: it could replace what is in it
    home = app.cluster.parents[1]
    for directory, mode in ((home, 0o755), (app.cluster.parent, 0o755), (app.cluster, 0o750)):
        make_directory(directory, mode)
        group = users.find(SUPERUSER).gid if directory == app.cluster and os.geteuid() == 0 else 0
        _give(directory.resolve(), User("root", 0, group, ()), mode)


def own_directory(app: App, name: str) -> Path:
    """A directory of the user postgres beneath that of the cluster, made where it is missing."""
    make_directory(app.cluster / name, 0o700)
    _give_postgres(app.cluster / name)
    return app.cluster / name


def _give_postgres(directory: Path) -> None:
    if os.geteuid() == 0:
        _give(directory, users.find(SUPERUSER), 0o700)


def _give(directory: Path, owner: User, mode: int) -> None:
    """Set the owner of a directory, in a directory that only root can change. Only root can do this.

    Raises HostError where another user can change the way to it.
    """
    if os.geteuid() != 0:
        return
    try:
        with Directory(directory.parent) as parent:
            parent.give(directory.name, owner, mode)
    except PermissionError as error:
        what = f"another user than root can change {error.filename}, in which the data of PostgreSQL is"
        raise HostError(what, str(directory), f"chown root {error.filename}; chmod go-w {error.filename}") from None


def make_postgres_directory(directory: Path) -> None:
    """Make an empty directory that only the user postgres may enter; remove what was there before."""
    remove_tree(directory)
    make_directory(directory, 0o700)
    _give_postgres(directory)


# ---------------------------------------------------------------------------------------------- files of the server


def as_owner(work: Callable[[], T], seconds: float | None = users.PATIENCE) -> T:
    """Do the work as the user postgres, who owns what is in the directories of the server; returns its result, JSON.

    As root it would follow the links that a process of that user can put there. Raises what the work raises.
    """
    return users.run_as(users.find(SUPERUSER), work, seconds) if os.geteuid() == 0 else work()


def read_text(file: Path) -> str:
    """The text of a file in a directory of the server. Raises OSError."""
    return as_owner(lambda: file.read_text(errors="replace"))


def write_file(file: Path, data: bytes) -> None:
    """Write a file, and its directory where that is missing, in a directory of the server. Raises OSError."""
    as_owner(partial(_write_file, file, data))


def _write_file(file: Path, data: bytes) -> None:
    make_directory(file.parent, 0o700)
    write_atomic(file, data)


# ---------------------------------------------------------------------------------------------- queries


def query(
    server: Server,
    sql: str,
    database: str = SUPERUSER,
    user: str = MONITOR,
    timeout: float = 30.0,
    bound: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """Every row of the statements' results; NULL is the empty string.

    psql is a process of the user postgres, which pg_ident.conf allows to connect as `user`. Only a session of the app's
    own role has the settings that the app made for it (see GUARD).

    `bound` are values: the SQL refers to them as :'name' (a literal) or :"name" (an identifier), which psql quotes.
    They are passed in the environment, not in arguments. Several statements are one transaction only with BEGIN; the
    first error ends the script. `timeout` in seconds, also for each statement on the server.

    Raises HostError with the server's message. Its `reason` is the SQLSTATE of a statement that failed.
    """
    argv: list[str | Path] = [server.bin / "psql", "-Xtq", "--csv", "-v", "ON_ERROR_STOP=1"]
    # with the SQLSTATE in front of each message
    argv += ["-v", "VERBOSITY=verbose", "-f", "-"]
    argv += ["-h", server.socket, "-U", user, "-d", database]
    values = {f"HOMEPORT_{checked('variable', name)}": value for name, value in (bound or {}).items()}
    script = "".join(f"\\getenv {name} HOMEPORT_{name}\n" for name in bound or {}) + sql
    options = session_options(server, user, {"statement_timeout": str(int(timeout * 1000))})
    env = {**client_environment(), **values, "PGAPPNAME": "hostctl", "PGCONNECT_TIMEOUT": "10", "PGOPTIONS": options}
    where = f"database {database} at {server.socket}"
    try:
        done = subprocess.run(
            as_postgres(argv),
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout + 5,
            env=env,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"PostgreSQL does not answer within {timeout:g} s", where, "deploy status") from None
    except OSError as error:
        raise HostError(f"psql does not run: {error}", where, "deploy provision") from None
    if done.returncode != 0:
        what = f"PostgreSQL: {error_line(done.stderr)}"
        raise HostError(what, where, "deploy logs, and deploy status", reason=sqlstate(done.stderr))
    return parse_rows(done.stdout)


def administer(
    server: Server,
    sql: str,
    database: str = SUPERUSER,
    timeout: float = 30.0,
    bound: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """As `query`, as the server's superuser.

    Its place is the database postgres, to which no role of the app can connect. In the app's database it may define
    what is hostctl's, but must run nothing that the app can define: no function, operator, cast, trigger or view.
    """
    return query(server, sql, database, SUPERUSER, timeout, bound)


def session_options(server: Server, user: str, more: Mapping[str, str]) -> str:
    """The value of PGOPTIONS for a session of a role; see GUARD. `more` are settings of the caller's."""
    settings = {**ALWAYS, **(GUARD if user in (SUPERUSER, MONITOR, READER) else {})}
    if user == SUPERUSER:
        settings |= SUPERUSER_GUARD
        settings |= {"event_triggers": "off"} if _major(server) >= EVENT_TRIGGERS else {}
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in {**settings, **more}.items())


def _escaped(value: str) -> str:
    """A value within PGOPTIONS, where a space ends it."""
    return re.sub(r"([\\ ])", r"\\\1", value)


def _major(server: Server) -> int:
    """The major version of the server's programs, by the directory that Debian gives them."""
    name = server.bin.resolve().parent.name
    return int(name) if name.isdigit() else 0


def parse_rows(printed: str) -> list[list[str]]:
    """The rows of fields in psql's CSV output. An empty line is a row of one empty field."""
    return [row or [""] for row in csv.reader(io.StringIO(printed, newline=""))]


def error_line(errors: str) -> str:
    """The first error message in the output of a PostgreSQL program, without SQLSTATE and place."""
    lines = [line for line in errors.splitlines() if re.search(r"(error|fatal|panic):", line, re.IGNORECASE)]
    text = (lines or errors.strip().splitlines() or ["no reason given"])[0]
    text = re.sub(r"^psql:<stdin>:\d+: |^psql: error: ", "", text)
    return re.sub(rf"^(\w+:  ){SQLSTATE}: ", r"\1", text)[:500]


def sqlstate(errors: str) -> str:
    """The SQLSTATE of the error that ended a script, from psql's verbose output; "" without one.

    It is that of the last message: warnings come before. A failed connection has no SQLSTATE.
    """
    states = re.findall(rf"^(?:psql:[^:\n]*:\d+: )?\w+:  ({SQLSTATE}): ", errors, re.MULTILINE)
    return str(states[-1]) if states else ""


def accepts_sessions(server: Server) -> bool:
    """Whether a server answers on the socket and accepts sessions."""
    argv: list[str | Path] = [server.bin / "pg_isready", "-q", "-h", server.socket, "-U", SUPERUSER, "-d", SUPERUSER]
    try:
        return run_as_postgres(argv, timeout=10, env=client_environment()).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def control_data(server: Server) -> dict[str, str]:
    """The output of pg_controldata for the data directory, by label. Raises HostError."""
    done = run_as_postgres([server.bin / "pg_controldata", "-D", server.data], timeout=30)
    if done.returncode != 0:
        raise HostError(f"pg_controldata: {error_line(done.stderr)}", str(server.data), "deploy backup status")
    return {key: value.strip() for key, _, value in (line.partition(":") for line in done.stdout.splitlines())}


def postmaster_pid(server: Server) -> int | None:
    """The process id of the server on the data directory; None when no server runs."""
    try:
        pid = int(read_text(server.data / "postmaster.pid").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if Path(f"/proc/{pid}").exists() else None


# ---------------------------------------------------------------------------------------------- creation


def initdb(programs: Path, data: Path, checksums: bool = True) -> None:
    """Create a cluster in an empty directory of the user postgres; durable only after `sync`. Raises HostError."""
    # sessions come through the socket and are authenticated as system users, as in Homeport's pg_hba.conf
    argv: list[str | Path] = [programs / "initdb", "-D", data, "-U", SUPERUSER, "--encoding=UTF8", f"--locale={LOCALE}"]
    argv += ["--data-checksums"] if checksums else []
    argv += ["--auth-local=peer", "--auth-host=reject", "--no-instructions", "--no-sync"]
    _refuse_failed(run_as_postgres(argv, timeout=INITDB), "initdb", data)


def sync(programs: Path, data: Path) -> None:
    """Write a new cluster to disk. Raises HostError."""
    _refuse_failed(run_as_postgres([programs / "initdb", "--sync-only", "-D", data], timeout=INITDB), "initdb", data)


def _refuse_failed(done: subprocess.CompletedProcess[str], program: str, data: Path) -> None:
    if done.returncode != 0:
        raise HostError(f"{program} failed: {error_line(done.stderr)}", str(data), "df -h; then deploy provision again")


# ---------------------------------------------------------------------------------------------- start and stop


def start(app: App, host: Host) -> None:
    """Start the server and wait until it accepts sessions; after a crash that is once it has recovered.

    Raises HostError with the server's error when it ends instead.
    """
    if not host.systemd.show(app.cluster_unit)[0].runs:
        host.systemd.start(app.cluster_unit)
    wait_until_ready(app, host)


def wait_until_ready(app: App, host: Host) -> None:
    """Wait until the server accepts sessions. Raises HostError when it ends instead."""
    server, begun = live_server(app), host.clock()
    while not accepts_sessions(server):
        if host.clock() - begun > RECOVERY or _has_ended(app, host):
            error = error_line(host.systemd.journal(app.cluster_unit, 40))
            fix = f"journalctl -u {app.cluster_unit} shows the reason; then deploy provision"
            raise HostError(f"PostgreSQL does not start: {error}", app.cluster_unit, fix)
        host.sleep(POLL)


def _has_ended(app: App, host: Host) -> bool:
    unit = host.systemd.show(app.cluster_unit)[0]
    return not unit.runs and not unit.queued


def stop(app: App, host: Host) -> None:
    """Shut the server down cleanly, so that its next start has nothing to recover, and wait until it has ended.

    A checkpoint before it makes the shutdown short. Raises HostError.
    """
    server = live_server(app)
    if accepts_sessions(server):
        administer(server, "CHECKPOINT", timeout=600)
    host.systemd.stop(app.cluster_unit)
    if (pid := postmaster_pid(server)) is not None:
        raise HostError(
            "PostgreSQL still runs", f"process {pid} on {server.data}", f"systemctl stop {app.cluster_unit}"
        )


def restart(app: App, host: Host) -> float:
    """Stop the server and start it; returns the seconds in which it accepted no session. Raises HostError."""
    begun = time.monotonic()
    if accepts_sessions(live_server(app)):
        administer(live_server(app), "CHECKPOINT", timeout=600)
        begun = time.monotonic()
    host.systemd.stop(app.cluster_unit)
    start(app, host)
    return time.monotonic() - begun


# ---------------------------------------------------------------------------------------------- configuration


def apply_configuration(app: App, host: Host) -> list[str]:
    """Reload the configuration of the running server, and restart it for settings that need it; returns those settings.

    Raises HostError for a configuration with which the server would not start. It then keeps the one it has.
    """
    check_configuration(app)
    administer(live_server(app), "SELECT pg_reload_conf()")
    waiting = pending_restart(live_server(app))
    if waiting:
        restart(app, host)
    return waiting


def check_configuration(app: App, programs: Path | None = None, data: Path | None = None) -> None:
    """Check that a server would start with the app's configuration: names, values, and the libraries to load.

    By default the live server. Raises HostError (usage).
    """
    file, programs = app.database.with_name("postgresql.conf"), programs or app.cluster_bin
    argv: list[str | Path] = [programs / "postgres", "-D", data or app.cluster_data, "-C", "shared_preload_libraries"]
    done = run_as_postgres([*argv, "-c", f"config_file={file}"], timeout=30)
    if done.returncode != 0:
        reasons = re.findall(r" LOG:  (?!skipping)(.*)", done.stderr) or [error_line(done.stderr)]
        raise HostError(f"PostgreSQL refuses its configuration: {reasons[0][:500]}", str(file), FIX_PARAMETERS, USAGE)
    _refuse_missing(programs, done.stdout)


def refuse_missing_libraries(app: App, names: str) -> None:
    """Check that the libraries of a shared_preload_libraries are installed for the app's server, or for the one to be
    created. Raises HostError (usage).
    """
    newest = VERSIONS / str(max(installed_majors(), default=0)) / "bin"
    _refuse_missing(app.cluster_bin if app.cluster_bin.exists() else newest, names)


def _refuse_missing(programs: Path, names: str) -> None:
    directory = programs.resolve().parent / "lib"
    for name in (part.strip().strip('"') for part in names.split(",")):
        if name and "/" not in name and not (directory / f"{name.removesuffix('.so')}.so").exists():
            what = f"PostgreSQL would not start: there is no library {name[:80]} for shared_preload_libraries"
            raise HostError(what, str(directory), FIX_PARAMETERS, USAGE)


def pending_restart(server: Server) -> list[str]:
    """The names of changed settings that need a restart."""
    # the superuser's, since the roles of hostctl may be missing: this runs before they are made
    return [row[0] for row in administer(server, PENDING)]


def replaced_files(server: Server) -> list[str]:
    """The program and libraries of the running server that an update has replaced on disk."""
    pid = postmaster_pid(server)
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines() if pid else []
    except OSError:
        return []
    return sorted({path for line in lines if (path := _deleted_file(line)) is not None})


def _deleted_file(line: str) -> str | None:
    """The deleted file in a line of /proc/PID/maps, if its code is mapped; else None."""
    fields = line.split(maxsplit=5)
    if len(fields) < 6 or "x" not in fields[1] or not fields[5].endswith(" (deleted)"):
        return None
    return fields[5].removesuffix(" (deleted)") if fields[5].startswith("/usr/") else None


def restart_if_updated(app: App, host: Host) -> str | None:
    """Restart the server if an update replaced its files; returns a line for the audit, or None without a restart.

    Raises HostError.
    """
    old = replaced_files(live_server(app))
    if not old:
        return None
    check_configuration(app)
    before = _version(live_server(app))
    seconds = restart(app, host)
    after = _version(live_server(app))
    return f"PostgreSQL {before} to {after} in {seconds:.1f} s: an update replaced {', '.join(old)[:200]}"


def _version(server: Server) -> str:
    return query(server, "SHOW server_version")[0][0].split()[0]
