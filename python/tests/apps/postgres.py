"""A PostgreSQL server of a test's own: on a Unix socket in a directory of its own, without a password."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.load import pipe
from hostctl.postgres.server.cluster import VERSIONS, as_postgres, environment, installed_majors

NAME = "guestbook"
# a test wants speed, not durability; the sessions that it ends are to end at once
SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "60", "log_min_messages": "warning"}


@dataclass(frozen=True)
class Postgres:
    """`guestbook` is the database and its owner; the user postgres may do everything."""

    root: Path

    @property
    def bin(self) -> Path:
        return VERSIONS / str(installed_majors()[-1]) / "bin"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def url(self) -> str:
        return f"ecto://{NAME}@localhost/{NAME}?socket_dir={self.root}"

    def start(self) -> None:
        options = " ".join(f"-c {name}='{value}'" for name, value in SETTINGS.items())
        self.run("pg_ctl", "-w", "-D", self.data, "-l", self.root / "log", "-o", f"-k {self.root} {options}", "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-w", "-D", self.data, "-m", mode, "stop")

    def kill(self) -> None:
        """SIGKILL to the postmaster; what it leaves is waited for, so that it can be started again."""
        pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, signal.SIGKILL)
        for child in (pid, *map(int, children)):
            while Path(f"/proc/{child}").exists():
                pass

    def sql(self, statement: str, database: str = NAME) -> list[list[str]]:
        """The rows of a statement of the user postgres, as text."""
        out = self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.root, "-d", database, "-c", statement)
        return [line.split("|") for line in out.splitlines()]

    def run(self, program: str, *arguments: str | Path) -> str:
        argv = as_postgres([self.bin / program, *arguments])
        done = subprocess.run(
            argv, env=environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def session(self, statements: Sequence[str]) -> subprocess.Popen[str]:
        """A psql that has run the statements, and stays until its standard input is closed."""
        argv: list[str | Path] = [self.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.root, "-d", NAME]
        process = subprocess.Popen(
            as_postgres(argv), env=environment(), cwd="/", text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        pipe(process.stdin).write("".join(f"{one};\n" for one in (*statements, "SELECT 'done'")))
        pipe(process.stdin).flush()
        assert pipe(process.stdout).readline() == "done\n"
        return process


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server with the app's empty database; stopped and removed at the end."""
    root = Path(tempfile.mkdtemp(prefix="homeport-postgres-"))
    root.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(root, "postgres", "postgres")
    server = Postgres(root)
    try:
        server.run("initdb", "-D", server.data, "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C.UTF-8")
        server.start()
        server.sql(f"CREATE ROLE {NAME} LOGIN", "postgres")
        server.sql(f"CREATE DATABASE {NAME} OWNER {NAME}", "postgres")
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop("immediate")
        shutil.rmtree(root)
