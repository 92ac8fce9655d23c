"""An app's PostgreSQL server: what provisioning wrote down about it, how it is asked, made, started and stopped.

One data directory per app, below /var/lib/postgresql/homeport/APP. That directory is root's, so that only root renames
inside; `data` is the server's. `bin` points to the programs of the major version that the data has.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hostctl.backup import settings
from hostctl.backup.settings import Backup
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import make_directory, point, read_json, remove_tree
from hostctl.common.names import checked
from hostctl.core.paths import App
from hostctl.host.host import Host

SUPERUSER = "postgres"  # the user of the system, and the role
VERSIONS = Path("/usr/lib/postgresql")  # where Debian puts each major version
RECOVERY = 3600.0  # seconds that a start may take, recovery after a crash included
INITDB = 600.0
POLL = 0.1
LOCALE = "C.UTF-8"  # sorts by code point, whatever the version of the C library: an index never goes wrong by an update
# the app's role and its database; nobody else may connect to any
ROLE = """
CREATE ROLE :"user" LOGIN;
CREATE DATABASE :"name" OWNER :"user";
REVOKE CONNECT, TEMPORARY ON DATABASE :"name", postgres FROM PUBLIC;
REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;
"""
FURNISH = (
    # hostctl's own, in the app's database: the canary's rows say how far a copy of it got
    "CREATE SCHEMA IF NOT EXISTS homeport",
    "CREATE TABLE IF NOT EXISTS homeport.canary (n bigint PRIMARY KEY, at timestamptz NOT NULL)",
    # the app may read it, so that a pg_dump as the app's role works
    "GRANT USAGE ON SCHEMA homeport TO {user}",
    "GRANT SELECT ON homeport.canary TO {user}",
)
MEND = "mend database.parameters in deploy.yml; then deploy provision"
PENDING = "SELECT name FROM pg_settings WHERE pending_restart ORDER BY name"


class Server(NamedTuple):
    """A server to ask. `socket` is the directory of its socket; the port is 5432, which only names the socket."""

    bin: Path
    data: Path
    socket: Path


class Cluster(NamedTuple):
    """What provisioning wrote down. `user` is the app's role and user of the system, `name` its database.

    `lock_timeout` in seconds, for migrations.
    """

    user: str
    name: str
    pool: int
    lock_timeout: float
    backup: Backup | None


def load(app: App) -> Cluster | None:
    """What provisioning wrote down; None when the app has no PostgreSQL of its own. Raises HostError (usage)."""
    found = read_json(app.database)
    if found is None or found.get("engine") != "postgres":
        return None
    try:
        backup = settings.parse_backup(found["backup"]) if found.get("backup") else None
        user, name = str(found["user"]), str(found["name"])
        return Cluster(user, name, int(found["pool"]), float(found["lock_timeout"]), backup)
    except (KeyError, TypeError, ValueError) as error:
        what = f"database.json cannot be read: {type(error).__name__}: {error}"
        raise HostError(what, str(app.database), "deploy provision", USAGE) from None


def require(app: App) -> Cluster:
    """As `load`, for what makes no sense without one. Raises HostError (usage)."""
    found = load(app)
    if found is None:
        fix = "set database.engine: postgres, and run deploy provision"
        raise HostError(f"{app.name} has no PostgreSQL", "database in deploy.yml", fix, USAGE)
    return found


def live_server(app: App) -> Server:
    """The app's own server, whether it runs or not."""
    return Server(app.cluster_bin, app.cluster_data, app.cluster_socket)


# ---------------------------------------------------------------------------------------------- programs


def run_as_postgres(
    argv: Sequence[str | Path],
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    cwd: Path = Path("/"),
) -> subprocess.CompletedProcess[str]:
    """Run a program as the user postgres, with `text` on its standard input; its exit status is the caller's to judge.

    Its environment is `env` and nothing else but PATH and the locale. Raises subprocess.TimeoutExpired.
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
    """The command that runs `argv` as the user postgres: as root through setpriv, otherwise as whoever we are."""
    become = ["setpriv", f"--reuid={SUPERUSER}", f"--regid={SUPERUSER}", "--init-groups", "--inh-caps=-all", "--"]
    return [*(become if os.geteuid() == 0 else []), *(str(one) for one in argv)]


def environment() -> dict[str, str]:
    """What PostgreSQL's programs get: words that can be compared, and no PG variable that somebody left."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": LOCALE, "LANGUAGE": "C", "PGCLIENTENCODING": "UTF8"}


def installed_majors() -> list[int]:
    """The major versions whose server is installed, in order."""
    return sorted(int(found.parent.parent.name) for found in VERSIONS.glob("[0-9]*/bin/postgres"))


def data_major(data: Path) -> int:
    """The major version a data directory was made by. Raises HostError when it is none."""
    try:
        return int((data / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"no PostgreSQL data: {error}", str(data), "deploy backup status") from None


def use_version(app: App, version: int) -> None:
    """Let the app's server run by the programs of that major version. Raises HostError when they are not installed."""
    if version not in installed_majors():
        fix = f"apt-get install postgresql-{version}"
        raise HostError(f"PostgreSQL {version} is not installed", str(VERSIONS), fix)
    make_directories(app)
    target = str(VERSIONS / str(version) / "bin")
    if not app.cluster_bin.is_symlink() or app.cluster_bin.readlink() != Path(target):
        point(app.cluster_bin, target)


def make_directories(app: App) -> None:
    """The directory of the app's cluster: root's, and postgres may pass through it."""
    for directory, mode in ((app.cluster.parent, 0o755), (app.cluster, 0o750)):
        make_directory(directory, mode)
    if os.geteuid() == 0:
        shutil.chown(app.cluster, "root", SUPERUSER)


def make_postgres_directory(directory: Path) -> None:
    """An empty directory of the user postgres alone; what was there is removed."""
    remove_tree(directory)
    make_directory(directory, 0o700)
    if os.geteuid() == 0:
        shutil.chown(directory, SUPERUSER, SUPERUSER)


# ---------------------------------------------------------------------------------------------- questions


def query(
    server: Server,
    sql: str,
    database: str = SUPERUSER,
    user: str = SUPERUSER,
    timeout: float = 30.0,
    bound: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """Every row of the statements' results; NULL is the empty string.

    `bound` are values: the text has them as :'name' (a literal) or :"name" (an identifier), quoted by psql; they travel
    in the environment, not in arguments. The user of the system has to be let in as `user` by pg_ident.conf: root and
    postgres are, as postgres. Several statements are not one transaction unless they say BEGIN; the first error ends
    them. `timeout` in seconds, for each statement on the server as well. Raises HostError with the server's words.
    """
    argv: list[str | Path] = [server.bin / "psql", "-Xtq", "--csv", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    argv += ["-h", server.socket, "-U", user, "-d", database]
    values = {f"HOMEPORT_{checked('variable', name)}": value for name, value in (bound or {}).items()}
    script = "".join(f"\\getenv {name} HOMEPORT_{name}\n" for name in bound or {}) + sql
    # whatever the app's parameters make of its own sessions
    options = f"-c statement_timeout={int(timeout * 1000)} -c lock_timeout=0 -c default_transaction_read_only=off"
    options += " -c client_min_messages=warning"
    env = {**environment(), **values, "PGAPPNAME": "hostctl", "PGCONNECT_TIMEOUT": "10", "PGOPTIONS": options}
    where = f"database {database} at {server.socket}"
    try:
        done = subprocess.run(
            argv, input=script, capture_output=True, text=True, check=False, timeout=timeout + 5, env=env, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"PostgreSQL does not answer within {timeout:g} s", where, "deploy status") from None
    except OSError as error:
        raise HostError(f"psql does not run: {error}", where, "deploy provision") from None
    if done.returncode != 0:
        raise HostError(f"PostgreSQL: {error_line(done.stderr)}", where, "deploy logs, and deploy status")
    return parse_rows(done.stdout)


def parse_rows(printed: str) -> list[list[str]]:
    """What psql printed as CSV, as rows of fields. A line with nothing is a row of one empty field."""
    return [row or [""] for row in csv.reader(io.StringIO(printed, newline=""))]


def error_line(errors: str) -> str:
    """The first line that a program of PostgreSQL complained with, without where it read the statement."""
    lines = [line for line in errors.splitlines() if re.search(r"(error|fatal|panic):", line, re.IGNORECASE)]
    text = (lines or errors.strip().splitlines() or ["no reason given"])[0]
    return re.sub(r"^psql:<stdin>:\d+: |^psql: error: ", "", text)[:500]


def accepts_sessions(server: Server) -> bool:
    """Whether a server answers on the socket and lets sessions in."""
    argv: list[str | Path] = [server.bin / "pg_isready", "-q", "-h", server.socket, "-U", SUPERUSER, "-d", SUPERUSER]
    try:
        return subprocess.run(argv, check=False, env=environment(), timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def control_data(server: Server) -> dict[str, str]:
    """What pg_controldata tells of the data directory. Raises HostError."""
    done = run_as_postgres([server.bin / "pg_controldata", "-D", server.data], timeout=30)
    if done.returncode != 0:
        raise HostError(f"pg_controldata: {error_line(done.stderr)}", str(server.data), "deploy backup status")
    return {key: value.strip() for key, _, value in (line.partition(":") for line in done.stdout.splitlines())}


def postmaster_pid(server: Server) -> int | None:
    """The process of the server that has the data directory open; None when none is alive."""
    try:
        pid = int((server.data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if Path(f"/proc/{pid}").exists() else None


# ---------------------------------------------------------------------------------------------- a new one


def initdb(programs: Path, data: Path, checksums: bool = True) -> None:
    """Fill an empty directory of the user postgres; not on disk before `sync`. Raises HostError."""
    # every session comes through the socket and is who the system says it is; Homeport's pg_hba.conf says so as well
    argv: list[str | Path] = [programs / "initdb", "-D", data, "-U", SUPERUSER, "--encoding=UTF8", f"--locale={LOCALE}"]
    argv += ["--data-checksums"] if checksums else []
    argv += ["--auth-local=peer", "--auth-host=reject", "--no-instructions", "--no-sync"]
    _done(run_as_postgres(argv, timeout=INITDB), "initdb", data)


def sync(programs: Path, data: Path) -> None:
    _done(run_as_postgres([programs / "initdb", "--sync-only", "-D", data], timeout=INITDB), "initdb", data)


def _done(done: subprocess.CompletedProcess[str], program: str, data: Path) -> None:
    if done.returncode != 0:
        raise HostError(f"{program} failed: {error_line(done.stderr)}", str(data), "df -h; then deploy provision again")


def create_canary_table(server: Server, wanted: Cluster, database: str) -> None:
    """hostctl's schema in a database that has none, such as one that was loaded. Raises HostError. Idempotent."""
    script = ";\n".join(one.format(user=':"user"') for one in FURNISH)
    query(server, script, database, bound={"user": wanted.user})


# ---------------------------------------------------------------------------------------------- start and stop


def start(app: App, host: Host) -> None:
    """Start the server and wait until it lets sessions in, which after a crash is when it has recovered.

    Raises HostError with its last words when it ends instead.
    """
    if not host.systemd.show(app.cluster_unit)[0].runs:
        host.systemd.start(app.cluster_unit)
    wait_until_ready(app, host)


def wait_until_ready(app: App, host: Host) -> None:
    """Wait until the server lets sessions in. Raises HostError when it ends instead."""
    server, begun = live_server(app), host.clock()
    while not accepts_sessions(server):
        if host.clock() - begun > RECOVERY or _ended(app, host):
            words = error_line(host.systemd.journal(app.cluster_unit, 40))
            fix = f"journalctl -u {app.cluster_unit} tells why; then deploy provision"
            raise HostError(f"PostgreSQL does not start: {words}", app.cluster_unit, fix)
        host.sleep(POLL)


def _ended(app: App, host: Host) -> bool:
    unit = host.systemd.show(app.cluster_unit)[0]
    return not unit.runs and not unit.queued


def stop(app: App, host: Host) -> None:
    """Stop the server as it wants to be stopped, and wait until it has ended: the data is whole, nothing to recover.

    A checkpoint first makes the stop itself short. Raises HostError.
    """
    server = live_server(app)
    if accepts_sessions(server):
        query(server, "CHECKPOINT", timeout=600)
    host.systemd.stop(app.cluster_unit)
    if (pid := postmaster_pid(server)) is not None:
        raise HostError(
            "PostgreSQL still runs", f"process {pid} on {server.data}", f"systemctl stop {app.cluster_unit}"
        )


def restart(app: App, host: Host) -> float:
    """Stop the server and start it; returns the seconds in which it let no session in. Raises HostError."""
    begun = time.monotonic()
    if accepts_sessions(live_server(app)):
        query(live_server(app), "CHECKPOINT", timeout=600)
        begun = time.monotonic()
    host.systemd.stop(app.cluster_unit)
    start(app, host)
    return time.monotonic() - begun


# ---------------------------------------------------------------------------------------------- settings and updates


def apply_configuration(app: App, host: Host) -> list[str]:
    """Let the running server take its configuration as it is now; returns the settings it had to be restarted for.

    Raises HostError when it is not one that it would start with; it runs on with what it has then.
    """
    check_configuration(app)
    query(live_server(app), "SELECT pg_reload_conf()")
    waiting = pending_restart(live_server(app))
    if waiting:
        restart(app, host)
    return waiting


def check_configuration(app: App, programs: Path | None = None, data: Path | None = None) -> None:
    """Whether a server, the live one unless told, would start with the app's configuration: names, values, and the
    libraries it is to load. Raises HostError (usage).
    """
    file, programs = app.database.with_name("postgresql.conf"), programs or app.cluster_bin
    argv: list[str | Path] = [programs / "postgres", "-D", data or app.cluster_data, "-C", "shared_preload_libraries"]
    done = run_as_postgres([*argv, "-c", f"config_file={file}"], timeout=30)
    if done.returncode != 0:
        told = re.findall(r" LOG:  (?!skipping)(.*)", done.stderr) or [error_line(done.stderr)]
        raise HostError(f"PostgreSQL refuses its configuration: {told[0][:500]}", str(file), MEND, USAGE)
    _refuse_missing(programs, done.stdout)


def refuse_missing_libraries(app: App, names: str) -> None:
    """Whether the libraries of that shared_preload_libraries are installed for the app's server, or for the one that
    would be made: before anything is written. Raises HostError (usage).
    """
    newest = VERSIONS / str(max(installed_majors(), default=0)) / "bin"
    _refuse_missing(app.cluster_bin if app.cluster_bin.exists() else newest, names)


def _refuse_missing(programs: Path, names: str) -> None:
    directory = programs.resolve().parent / "lib"
    for name in (part.strip().strip('"') for part in names.split(",")):
        if name and "/" not in name and not (directory / f"{name.removesuffix('.so')}.so").exists():
            what = f"PostgreSQL would not start: there is no library {name[:80]} for shared_preload_libraries"
            raise HostError(what, str(directory), MEND, USAGE)


def pending_restart(server: Server) -> list[str]:
    """The settings that were changed and wait for a restart."""
    return [row[0] for row in query(server, PENDING)]


def replaced_files(server: Server) -> list[str]:
    """The program and libraries that the running server has mapped and that an update has replaced on disk."""
    pid = postmaster_pid(server)
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines() if pid else []
    except OSError:
        return []
    return sorted({path for line in lines if (path := _gone(line)) is not None})


def _gone(line: str) -> str | None:
    """The deleted file of a line of /proc/PID/maps, if code of it is mapped."""
    fields = line.split(maxsplit=5)
    if len(fields) < 6 or "x" not in fields[1] or not fields[5].endswith(" (deleted)"):
        return None
    return fields[5].removesuffix(" (deleted)") if fields[5].startswith("/usr/") else None


def restart_if_updated(app: App, host: Host) -> str | None:
    """Restart the server if an update replaced what it runs; returns what was done, for the audit, or None.

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
