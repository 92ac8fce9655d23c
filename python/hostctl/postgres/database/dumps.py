"""pg_dump and pg_restore: a database as one file, and such a file as a second database in the live cluster.

A dump excludes hostctl's schema: its rows show how far a copy of the cluster goes, and a dump is no such copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import sync_directory
from hostctl.host.boundary import users
from hostctl.host.boundary.handles import Directory, give
from hostctl.postgres.database import inspect, row_counts
from hostctl.postgres.server import cluster, roles
from hostctl.postgres.server.cluster import Cluster, Server

LOCK_WAIT = "60s"  # that a table may be locked by a migration
SPARE = 256 << 20  # bytes that stay free: the live server's WAL is on the same disk
DISK_POLL = 1.0  # seconds
# a line of the table of contents: a number, two of the server's numbers, then kind, schema and name
ENTRY = re.compile(r"^\d+; \d+ \d+ (?P<kind>EXTENSION|COMMENT) - (?:EXTENSION )?(?P<name>\S+)")
# the schema itself; --exclude-schema has what is in it
ANALYZE = "SET client_min_messages = error;\nANALYZE"  # without warnings about tables of other owners
OWN_SCHEMA = re.compile(r"^\d+; \d+ \d+ (?:SCHEMA - homeport|(?:ACL|COMMENT) - SCHEMA homeport) ")
EXTENSIONS = "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname"


def dump(server: Server, database: str, target: Path, sql: bool = False) -> Path:
    """Write a consistent copy into a new file that only root can read: in pg_dump's custom format, or as SQL.

    Raises HostError.
    """
    form = "plain" if sql else "custom"
    argv: list[str | Path] = [server.bin / "pg_dump", f"--format={form}", "--exclude-schema=homeport"]
    argv += [f"--lock-wait-timeout={LOCK_WAIT}", "-h", server.socket, "-U", cluster.READER, "-d", database]
    options = cluster.session_options(server, cluster.READER, {"statement_timeout": "0"})
    with open(target, "xb", opener=_private) as output:
        done = subprocess.run(
            cluster.as_postgres(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env={**cluster.client_environment(), "PGOPTIONS": options},
            text=True,
            errors="replace",
            check=False,
            cwd="/",
        )
        os.fsync(output.fileno())
    sync_directory(target.parent)
    if done.returncode != 0:
        target.unlink()
        fix = "correct the cause, and try again"
        raise HostError(f"pg_dump: {cluster.error_line(done.stderr)}", f"database {database} at {server.socket}", fix)
    return target


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def contents(server: Server, file: Path, user: str) -> list[str]:
    """The lines of a dump's table of contents, read as the app's user: somebody has uploaded it.

    Raises HostError (usage) for a file that this version cannot read.
    """
    with file.open("rb") as source:
        # the app's user cannot enter the directory of the link to the programs
        argv: list[str | Path] = [(server.bin / "pg_restore").resolve(), "--list"]
        done = subprocess.run(
            as_user(user, argv),
            stdin=source,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=cluster.environment(),
            cwd="/",
        )
    if done.returncode != 0:
        what = f"pg_restore cannot read the dump: {cluster.error_line(done.stderr)}"
        raise HostError(what, str(file), "make it with deploy db dump, or pg_dump --format=custom", USAGE)
    return done.stdout.splitlines()


def without_extensions(lines: Sequence[str], present: Sequence[str]) -> list[str]:
    """The table of contents without extensions that exist already: only their owner can comment on them."""
    return [line for line in lines if not ((entry := ENTRY.match(line)) and entry["name"] in present)]


def without_own_schema(lines: Sequence[str]) -> list[str]:
    """The table of contents without the schema homeport, which is hostctl's in every database."""
    return [line for line in lines if not OWN_SCHEMA.match(line)]


# ---------------------------------------------------------------------------------------------- a second database


def load(server: Server, config: Cluster, file: Path, name: str) -> None:
    """Create the database `name` from a dump as the app's role, and analyze it. Raises HostError; the database stays
    until `drop_database`.

    The dump's statements are not trusted, so they never run as the server's superuser. hostctl's schema is there before
    them, so that none of them can make it. Extensions of the live database are created before, too, since the app's
    role may lack the privilege.
    """
    lines = contents(server, file, config.user)
    drop_database(server, name)
    present = [row[0] for row in cluster.query(server, EXTENSIONS, config.name)]
    roles.create_database(server, config, name, present)
    _restore(server, config, file, name, without_own_schema(without_extensions(lines, present)))
    inspect.write_canary(server, config._replace(name=name))
    # as the app's role: functions of its indexes run
    cluster.query(server, ANALYZE, name, config.user, timeout=row_counts.PATIENCE)


def drop_database(server: Server, name: str) -> None:
    """Delete a database, if it exists. Raises HostError."""
    cluster.administer(server, 'DROP DATABASE IF EXISTS :"name" WITH (FORCE)', bound={"name": name}, timeout=600)


def _restore(server: Server, config: Cluster, file: Path, name: str, entries: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="homeport-") as directory, file.open("rb") as source:
        listing, log = Path(directory) / "list", Path(directory) / "log"
        listing.write_text("".join(f"{line}\n" for line in entries))
        # the app's user cannot enter the directory of the link to the programs
        program = (server.bin / "pg_restore").resolve()
        argv: list[str | Path] = [program, "--exit-on-error", "--no-owner", "--no-privileges"]
        argv += ["--no-publications", "--no-subscriptions", "--no-security-labels", f"--use-list={listing}"]
        argv += ["--exclude-schema=homeport"]
        argv += ["-h", server.socket, "-U", config.user, "-d", name]
        set_owner(Path(directory), listing.name, config.user)
        with log.open("wb") as output:
            process = subprocess.Popen(
                as_user(config.user, argv),
                stdin=source,
                stdout=output,
                stderr=output,
                # overrides what database.parameters set for every session
                env=cluster.client_environment() | {"PGOPTIONS": "-c default_transaction_read_only=off"},
                cwd="/",
                start_new_session=True,
            )
            status = _wait_with_free_disk(process, server.data)
        if status != 0:
            what = f"pg_restore: {cluster.error_line(log.read_text(errors='replace'))}"
            raise HostError(what, str(file), "correct the dump, or load another one", USAGE)


def as_user(user: str, argv: Sequence[str | Path]) -> list[str]:
    """The command that runs `argv` as a system user; it ends when its parent process ends."""
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"]
    return [*become, "--no-new-privs", "--pdeathsig=TERM", "--", *(str(argument) for argument in argv)]


def set_owner(directory: Path, name: str, user: str) -> None:
    """Give a file in a directory of root's to the user, whose program reads it there; the directory stays root's."""
    with Directory(directory) as parent:
        handle = parent.regular(name)
        try:
            give(handle, users.find(user), 0o400)
        finally:
            os.close(handle)
    directory.chmod(0o711)


def _wait_with_free_disk(process: subprocess.Popen[bytes], disk: Path) -> int:
    """The exit status of the process. Ends it, and raises HostError, when the disk is almost full."""
    try:
        while True:
            try:
                return process.wait(DISK_POLL)
            except subprocess.TimeoutExpired:
                if shutil.disk_usage(disk).free < SPARE:
                    what = f"the disk is full: less than {SPARE >> 20} MB are free"
                    raise HostError(what, str(disk), "free some space on the host (df -h)") from None
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
