"""A host in a directory: a real PostgreSQL cluster, archived by the real pgBackRest to a real S3 server with TLS.

Only systemd is made up: its units are processes of this test, which die with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from objectstore import Store, die_with_parent, free_ports

from homeport.sandbox import certificates
from hostctl.backup import settings
from hostctl.common.files import Json
from hostctl.core.actor import Actor
from hostctl.core.paths import App, Layout
from hostctl.host.systemd import Unit
from hostctl.postgres.archive import monitor, replication, wal_stream
from hostctl.postgres.server import cluster
from hostctl.verbs import backup

USER = "shop"  # the app's role; no such user of the system is needed
PREFIX = "postgres-test-"  # of the directories of every run
WITHIN = 60.0  # seconds after which a test gives up waiting
ANN = Actor("ann", "laptop")
TAIL = """
import sys
from pathlib import Path
from hostctl.core.paths import Layout
from hostctl.host.host import Host
from hostctl.postgres.archive import wal_stream
wal_stream.stream(Layout(Path(sys.argv[1])).app("shop"), Host())
"""
WRITER = """
import subprocess, sys, time
psql = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
number = 0
while True:
    number += 1
    psql.stdin.write(f"INSERT INTO rows(n) VALUES ({number}) RETURNING n;\\n")
    psql.stdin.flush()
    line = psql.stdout.readline()
    if not line:
        sys.exit(1)
    print(line.strip(), time.time(), flush=True)
    time.sleep(0.003)
"""


def attach(root: Path, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """A server of a transient unit, as a process of this one; systemd is not asked. Its runtime directory is made."""
    assert [line for line in properties if line.startswith("User=")][-1] == f"User={cluster.SUPERUSER}"
    for name in (line.partition("=")[2] for line in properties if line.startswith("RuntimeDirectory=")):
        directory = root / "run" / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.chown(directory, cluster.SUPERUSER)
    *become, dashes = cluster.as_postgres([])
    assert dashes == "--"
    # whoever changes its user outlives its parent unless it asks anew
    argv = [*become, "--pdeathsig=QUIT", dashes, *argv]
    files = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
    return subprocess.Popen(argv, **files, cwd="/", env=cluster.environment(), start_new_session=True)  # type: ignore[call-overload]


class TlsStore(Store):
    """The S3 server over HTTPS, with a certificate of an authority that only `ca` knows."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        directory.chmod(0o755)
        issued = certificates.issue("127.0.0.1")
        self.ca = directory / "ca.pem"
        for name, text in (("ca.pem", issued.ca), ("server.pem", issued.certificate), ("server.key", issued.key)):
            (directory / name).write_text(text)
        self.ca.chmod(0o644)
        # none of those from which the kernel takes ports for connections, which any process may have meanwhile
        self.tls = next(port for port in free_ports(5) if port not in (self.port, *self._others))
        self.endpoint = f"https://127.0.0.1:{self.tls}"

    def _argv(self) -> list[str]:
        files = (f"-s3.cert.file={self.directory}/server.pem", f"-s3.key.file={self.directory}/server.key")
        return [*super()._argv(), f"-s3.port.https={self.tls}", *files]

    def backup(self, bucket: str, **more: object) -> settings.Backup:
        return super().backup(bucket, **{"ca": self.ca, **more})


class Units:
    """What hostctl asks of systemd. The server and the tail are processes, a backup runs where it is asked for."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.calls: list[tuple[str, str]] = []
        self.properties: dict[str, list[str]] = {}
        self.inside: str | None = None
        self.deferred: list[str] | None = None  # a list: what would run beside is only noted

    def show(self, *units: str) -> list[Unit]:
        return [Unit({"ActiveState": "active" if self.runs(unit) else "inactive"}) for unit in units]

    def runs(self, unit: str) -> bool:
        return unit in self.processes and self.processes[unit].poll() is None

    def start(self, unit: str) -> None:
        self.calls.append(("start", unit))
        if not self.runs(unit) and (argv := self._argv(unit)):
            with (self.host.root / f"{unit}.log").open("ab") as log:
                self.processes[unit] = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", preexec_fn=die_with_parent
                )

    def _argv(self, unit: str) -> list[str]:
        app = self.host.app
        if unit == app.tail_unit:
            return [sys.executable, "-c", TAIL, str(self.host.root)]
        if unit != app.cluster_unit:
            return []
        app.cluster_socket.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.chown(app.cluster_socket, cluster.SUPERUSER)
        server = [app.cluster_bin / "postgres", "-D", app.cluster_data, "-c", f"config_file={self.host.configuration}"]
        # whoever changes its user outlives its parent unless it asks anew
        become, _, command = " ".join(cluster.as_postgres(server)).partition(" -- ")
        return [*become.split(), "--pdeathsig=KILL", "--", *command.split()]

    def stop(self, unit: str) -> None:
        self.calls.append(("stop", unit))
        self._end(unit, signal.SIGTERM if unit == self.host.app.tail_unit else signal.SIGINT)

    def attach(
        self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        self.calls.append(("attach", unit))
        self.properties[unit] = list(properties)
        self.processes[unit] = attach(self.host.root, argv, properties, output)
        return self.processes[unit]

    def foreground(self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]) -> int:
        self.properties[unit] = list(properties)
        (place,) = [line.partition("=")[2] for line in properties if line.startswith("WorkingDirectory=")]
        command = cluster.as_postgres(argv)
        return subprocess.run(command, stdout=output, stderr=output, cwd=place, env=cluster.environment()).returncode

    def kill(self, unit: str, signal_name: str) -> None:
        if self.runs(unit):
            self.processes[unit].send_signal(signal.Signals[signal_name])

    def own_unit(self) -> str:
        return "homeport-shop-test.service"

    def _end(self, unit: str, how: signal.Signals) -> None:
        if self.runs(unit):
            self.processes[unit].send_signal(how)
            self.processes[unit].wait(WITHIN)

    def power_cut(self) -> None:
        """kill -9 of everything at once; nobody is left to notice."""
        server = cluster.postmaster_pid(cluster.live_server(self.host.app))
        children = _children(server) if server else []
        for unit in list(self.processes):
            self._end(unit, signal.SIGKILL)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def text(self, unit: str) -> str:
        return f"[Service]\nUser={cluster.SUPERUSER}\nGroup={cluster.SUPERUSER}\nProtectSystem=strict\n"

    def journal(self, unit: str, lines: int) -> str:
        log = self.host.root / f"{unit}.log"
        return "\n".join(log.read_text().splitlines()[-lines:]) if log.exists() else ""

    def next_elapse(self, timer: str) -> float | None:
        return None

    def running_inside(self, unit: str) -> bool:
        return unit == self.inside

    def background(self, unit: str, argv: Sequence[str], properties: Sequence[str]) -> None:
        self.calls.append(("background", unit))
        if self.deferred is not None:
            self.deferred.append(" ".join(argv[1:]))
            return
        before, self.inside = self.inside, unit
        try:
            backup.perform(self.host.app, argv[-1], ANN, self.host)  # type: ignore[arg-type]
        finally:
            self.inside = before


def _children(of: int) -> list[int]:
    found = Path(f"/proc/{of}/task/{of}/children")
    return [int(one) for one in found.read_text().split()] if found.exists() else []


class Host:
    """One host with one app. It is its own hostctl Host."""

    def __init__(self, root: Path, store: Store, bucket: str, **more: Any) -> None:
        self.root, self.store, self.bucket_name = root, store, bucket
        root.chmod(0o755)
        self.app: App = Layout(root).app("shop")
        self.systemd = Units(self)
        self.configuration = self.app.config.with_name("postgresql.conf")
        for path in (self.app.config.parent, self.app.state, self.app.trees, self.app.cluster.parent):
            path.mkdir(parents=True)
        self.app.config.write_text(json.dumps({"app": "shop", "user": USER, "deployers": [], "domains": ["shop.test"]}))
        self.configure(**more)
        self.write_settings()
        self.keep_keys()

    def configure(self, backup: object = True, **more: Any) -> None:
        """Write database.json; `more` are settings of the backup."""
        told: Json = self.store.backup(self.bucket_name, **more)._asdict()
        document: Json = {"engine": "postgres", "user": USER, "name": "shop", "pool": 5, "lock_timeout": 2.0}
        document |= {"parameters": {}, "backup": {**told, "ca": told["ca"] and str(told["ca"])} if backup else None}
        self.app.database.write_text(json.dumps(document))

    def write_settings(self, **more: object) -> None:
        """The files that the role writes; `more` are settings of PostgreSQL."""
        app, etc = self.app, self.configuration.parent
        archive = f"pgbackrest --config={app.pgbackrest} --stanza={app.name} archive-push %p"
        told: dict[str, object] = {
            "listen_addresses": "",
            "unix_socket_directories": app.cluster_socket,
            "hba_file": etc / "pg_hba.conf",
            "ident_file": etc / "pg_ident.conf",
            "archive_mode": "on",
            "archive_command": f"test -e {app.cluster}/dropping || exec {archive}",
            "archive_timeout": "15s",
            "shared_buffers": "16MB",
            "max_connections": 25,
            "max_wal_size": "256MB",
            "fsync": "off",  # nothing here survives this machine
        }
        lines = [f"{name} = '{value}'\n" for name, value in (told | more).items()]
        self.configuration.write_text("".join(lines))
        (etc / "pg_hba.conf").write_text("local all all peer map=homeport\n")
        known = [("postgres", role) for role in (cluster.SUPERUSER, cluster.MONITOR, cluster.READER, USER)]
        known += [("root", "postgres"), ("root", USER)]
        (etc / "pg_ident.conf").write_text("".join(f"homeport {system} {role}\n" for system, role in known))

    def keep_keys(self, key: str | None = None) -> None:
        keys = {"access_key_id": self.store.access, "secret_access_key": self.store.secret, "encryption_key": key}
        settings.save_credentials(self.app, keys)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def clock(self) -> float:
        return time.monotonic()

    # ------------------------------------------------------------------------------- verbs

    def start(self, allow_empty: bool = False) -> Json:
        return replication.start(self.app, self, allow_empty)  # type: ignore[arg-type]

    def watch(self) -> Json:
        return monitor.check(self.app, self)  # type: ignore[arg-type]

    def verb(self, action: str) -> Json:
        return backup.perform(self.app, action, ANN, self)  # type: ignore[arg-type]

    def stop(self) -> None:
        """A clean stop of everything."""
        self.systemd.stop(self.app.cluster_unit)
        self.systemd.stop(self.app.tail_unit)

    # ------------------------------------------------------------------------------- looking

    @property
    def server(self) -> cluster.Server:
        return cluster.live_server(self.app)

    def sql(self, text: str, **bound: str) -> list[list[str]]:
        """Statements in the app's database, as the app."""
        return cluster.query(self.server, text, "shop", USER, bound=bound)

    def settled(self) -> None:
        """Wait until everything that is written is on S3."""
        replication.wait_until_stored(self.app, WITHIN, self)  # type: ignore[arg-type]

    def backed_up(self) -> None:
        """Wait until everything that is written is in the archive, where no tail is needed for it."""
        replication.archive_all(self.app, self)  # type: ignore[arg-type]

    def tail_says(self) -> Mapping[str, object] | None:
        return wal_stream.last_state(self.app)

    def objects(self, below: str) -> list[str]:
        """The keys in the bucket under the prefix that have `below` in them."""
        return [one.key for one in self.store.bucket(self.bucket_name).list("shop/") if below in one.key]

    def log(self) -> str:
        return self.systemd.journal(self.app.cluster_unit, 10_000)


class Writer:
    """A process that commits rows 1, 2, 3, ... in the app's database, and says which after each commit, and when."""

    def __init__(self, host: Host) -> None:
        host.sql(
            "CREATE TABLE IF NOT EXISTS rows(n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        argv = [host.server.bin / "psql", "-XAtq", "-h", host.server.socket, "-U", USER, "-d", "shop"]
        self.said = host.root / "writer.said"
        with self.said.open("wb") as output:
            command = [sys.executable, "-c", WRITER, *(str(one) for one in argv)]
            self.process = subprocess.Popen(command, stdout=output, preexec_fn=die_with_parent)

    @property
    def acknowledged(self) -> list[tuple[int, float]]:
        """Every row whose commit was told, and when."""
        lines = self.said.read_text().rpartition("\n")[0].splitlines()
        return [(int(number), float(at)) for number, at in (line.split() for line in lines)]

    def wait(self, rows: int) -> None:
        """Wait until that many more rows are committed."""
        wanted = len(self.acknowledged) + rows
        deadline = time.monotonic() + WITHIN
        while len(self.acknowledged) < wanted:
            assert self.process.poll() is None, "the writer has ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def numbers(host: Host, server: cluster.Server | None = None) -> list[int]:
    """The rows that a server has, asked as hostctl asks for the data of the app."""
    found = cluster.query(server or host.server, "SELECT n FROM public.rows ORDER BY n", "shop", cluster.READER)
    return [int(row[0]) for row in found]


def until(found: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + WITHIN
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def directory() -> Path:
    """A directory of this run's own, by whose name another run can tell whether this one still lives."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
