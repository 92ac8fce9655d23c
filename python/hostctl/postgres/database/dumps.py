"""pg_dump and pg_restore: a database as one file, and such a file as a second database beside the live one.

hostctl's own schema is left out: it tells how far a copy of the cluster got, and a dump is none.
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
from hostctl.postgres.database import inspect, row_counts
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Cluster, Server

LOCK_WAIT = "60s"  # that a table may be locked by a migration
SPARE = 256 << 20  # bytes that stay free: the live server's log is on the same disk, and ends with it
LOOK = 1.0  # seconds between two looks at the disk
# a line of the table of contents: number, two numbers of the server's, then what it is, its schema and its name
ENTRY = re.compile(r"^\d+; \d+ \d+ (?P<kind>EXTENSION|COMMENT) - (?:EXTENSION )?(?P<name>\S+)")
COPIED = "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname"


def dump(server: Server, database: str, target: Path, sql: bool = False) -> Path:
    """Write a consistent copy into a new file of root's own: pg_dump's own form, or SQL text. Raises HostError."""
    form = "plain" if sql else "custom"
    argv: list[str | Path] = [server.bin / "pg_dump", f"--format={form}", "--exclude-schema=homeport"]
    argv += [f"--lock-wait-timeout={LOCK_WAIT}", "-h", server.socket, "-U", cluster.SUPERUSER, "-d", database]
    with open(target, "xb", opener=_private) as output:
        done = subprocess.run(
            cluster.as_postgres(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env=cluster.environment(),
            text=True,
            errors="replace",
            check=False,
            cwd="/",
        )
        os.fsync(output.fileno())
    sync_directory(target.parent)
    if done.returncode != 0:
        target.unlink()
        fix = "mend what it says, and try again"
        raise HostError(f"pg_dump: {cluster.error_line(done.stderr)}", f"database {database} at {server.socket}", fix)
    return target


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def contents(server: Server, file: Path) -> list[str]:
    """The table of contents of a dump. Raises HostError (usage) for what is none that this version can read."""
    with file.open("rb") as source:
        argv: list[str | Path] = [server.bin / "pg_restore", "--list"]
        done = subprocess.run(
            cluster.as_postgres(argv),
            stdin=source,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=cluster.environment(),
            cwd="/",
        )
    if done.returncode != 0:
        what = f"this is no dump that PostgreSQL's pg_restore can read: {cluster.error_line(done.stderr)}"
        raise HostError(what, str(file), "make it with deploy db dump, or pg_dump --format=custom", USAGE)
    return done.stdout.splitlines()


def without_extensions(listed: Sequence[str], present: Sequence[str]) -> list[str]:
    """The table of contents without extensions that are there already: only their owner could comment on them."""
    return [line for line in listed if not ((found := ENTRY.match(line)) and found["name"] in present)]


# ---------------------------------------------------------------------------------------------- a second database


def load(server: Server, wanted: Cluster, file: Path, name: str) -> None:
    """Make the database `name` from a dump, whole and analysed, as the app's own role. Raises HostError; what was made
    stays until `drop`.

    The dump's statements are somebody's from elsewhere, so they never run as the server's superuser. Extensions that
    the live database has are made beforehand, since the app's role may not be allowed to.
    """
    listed = contents(server, file)
    drop_database(server, name)
    bound = {"name": name, "user": wanted.user}
    cluster.query(
        server, 'CREATE DATABASE :"name" OWNER :"user" TEMPLATE template0', bound=bound, timeout=row_counts.SHORT
    )
    cluster.query(server, 'REVOKE CONNECT, TEMPORARY ON DATABASE :"name" FROM PUBLIC', bound=bound)
    present = [row[0] for row in cluster.query(server, COPIED, wanted.name)]
    for extension in present:
        cluster.query(server, 'CREATE EXTENSION IF NOT EXISTS :"one" CASCADE', name, bound={"one": extension})
    _restored(server, wanted, file, name, without_extensions(listed, present))
    inspect.write_canary(server, wanted._replace(name=name))
    cluster.query(server, "ANALYZE", name, timeout=row_counts.PATIENCE)


def drop_database(server: Server, name: str) -> None:
    """Remove a database that may be gone already. Raises HostError."""
    cluster.query(server, 'DROP DATABASE IF EXISTS :"name" WITH (FORCE)', bound={"name": name}, timeout=600)


def _restored(server: Server, wanted: Cluster, file: Path, name: str, entries: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="homeport-") as own, file.open("rb") as source:
        listing, log = Path(own) / "list", Path(own) / "log"
        listing.write_text("".join(f"{line}\n" for line in entries))
        # the link to the programs is in a directory of root's and postgres'
        program = (server.bin / "pg_restore").resolve()
        argv: list[str | Path] = [program, "--exit-on-error", "--no-owner", "--no-privileges"]
        argv += ["--no-publications", "--no-subscriptions", "--no-security-labels", f"--use-list={listing}"]
        argv += ["-h", server.socket, "-U", wanted.user, "-d", name]
        for path in (Path(own), listing):
            set_owner(path, wanted.user)
        with log.open("wb") as output:
            process = subprocess.Popen(
                as_user(wanted.user, argv),
                stdin=source,
                stdout=output,
                stderr=output,
                # whatever database.parameters say of every session
                env=cluster.environment() | {"PGOPTIONS": "-c default_transaction_read_only=off"},
                cwd="/",
                start_new_session=True,
            )
            status = _watched(process, server.data)
        if status != 0:
            what = f"pg_restore: {cluster.error_line(log.read_text(errors='replace'))}"
            raise HostError(what, str(file), "mend the dump, or load another one", USAGE)


def as_user(user: str, argv: Sequence[str | Path]) -> list[str]:
    """The command that runs `argv` as a user of the system; it ends when whoever runs it does."""
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all", "--pdeathsig=TERM"]
    return [*become, "--", *(str(one) for one in argv)]


def set_owner(path: Path, user: str) -> None:
    """What the user's program is to read belongs to the user."""
    shutil.chown(path, user)


def _watched(process: subprocess.Popen[bytes], disk: Path) -> int:
    """The exit status of what fills the disk, which it must not do to its end. Raises HostError."""
    try:
        while True:
            try:
                return process.wait(LOOK)
            except subprocess.TimeoutExpired:
                if shutil.disk_usage(disk).free < SPARE:
                    what = f"the disk is full: less than {SPARE >> 20} MB are free"
                    raise HostError(what, str(disk), "free some space on the host (df -h)") from None
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
