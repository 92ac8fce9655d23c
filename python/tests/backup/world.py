"""A host in a directory whose stream is the real Litestream: only systemd is made up."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from objectstore import Store, die_with_parent

from hostctl.backup import settings
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App, Layout
from hostctl.host.systemd import Unit
from hostctl.sqlite.stream import bootstrap, litestream, monitor, replication

USER = pwd.getpwuid(os.getuid()).pw_name
STOP = 5.0  # seconds, for the unit's TimeoutStopSec: with S3 away Litestream does not end by itself
WRITER = """
import sqlite3, sys, time
path, checkpoint, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
db = sqlite3.connect(path, timeout=5, isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute(f"PRAGMA wal_autocheckpoint={checkpoint}")
db.execute("PRAGMA synchronous=NORMAL")
db.execute("CREATE TABLE IF NOT EXISTS rows(n INTEGER PRIMARY KEY, body TEXT, at REAL)")
db.execute("CREATE INDEX IF NOT EXISTS bodies ON rows(body)")
(number,) = db.execute("SELECT coalesce(max(n), 0) FROM rows").fetchone()
while True:
    number += 1
    db.execute("INSERT INTO rows VALUES (?, ?, ?)", (number, "x%x" % (number * 2654435761 % 2**32) * 20, time.time()))
    print(number, flush=True)
    time.sleep(pause)
"""


class Writer:
    """A process that commits about 200 rows a second, and says which after each commit."""

    def __init__(self, path: Path, checkpoint: int = 0, pause: float = 0.004) -> None:
        argv = [sys.executable, "-c", WRITER, str(path), str(checkpoint), str(pause)]
        self.said = Path(f"{path}.said")
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(argv, stdout=output, preexec_fn=die_with_parent)

    @property
    def acknowledged(self) -> int:
        """The last row whose commit was told."""
        whole = self.said.read_bytes().rpartition(b"\n")[0].split(b"\n")
        return int(whole[-1] or 0)

    def reach(self, more: int, within: float = 30.0) -> int:
        """Wait until that many more rows are committed; returns the last."""
        wanted, deadline = self.acknowledged + more, time.monotonic() + within
        while self.acknowledged < wanted:
            assert time.monotonic() < deadline, "the writer does not get on"
            assert self.process.poll() is None, "the writer ended"
            time.sleep(0.01)
        return self.acknowledged

    def stop(self) -> int:
        """Kill it in the middle of its work; returns the last row that was told."""
        self.process.kill()
        self.process.wait()
        return self.acknowledged


class Units:
    """What hostctl asks of systemd: one unit that runs the real Litestream, others that are but names."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None
        self.running: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.file = "[Service]\n"

    def show(self, *units: str) -> list[Unit]:
        return [Unit({"ActiveState": "active" if self._runs(unit) else "inactive"}) for unit in units]

    def _runs(self, unit: str) -> bool:
        if unit == self.host.app.stream_unit:
            return self.process is not None and self.process.poll() is None
        return unit in self.running

    def text(self, unit: str) -> str:
        return self.file

    def start(self, unit: str) -> None:
        self.calls.append(("start", unit))
        if unit != self.host.app.stream_unit:
            self.running.add(unit)
        elif not self._runs(unit):
            with suppress(HostError):  # systemd says it in the journal only
                replication.condition(self.host.app)
                bootstrap.prepare(self.host.app, self.host)  # type: ignore[arg-type]
                self._exec()

    def _exec(self) -> None:
        app = self.host.app
        dbs = settings.require(app)
        argv = [str(dbs.litestream), "replicate", "-config", str(app.stream_runtime / "litestream.yml")]
        with (self.host.root / "litestream.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=litestream.environment(app, dbs), stdout=log, stderr=log, preexec_fn=die_with_parent
            )

    def stop(self, unit: str) -> None:
        self.calls.append(("stop", unit))
        self.running.discard(unit)
        if unit == self.host.app.stream_unit and self._runs(unit):
            self._end(signal.SIGTERM, "success")

    def kill(self) -> None:
        """kill -9 of Litestream, and what systemd does then but the restart."""
        self._end(signal.SIGKILL, "signal")

    def _end(self, how: signal.Signals, result: str) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        try:
            self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            result = "timeout"
        os.environ["SERVICE_RESULT"] = result
        replication.stopped(self.host.app)
        del os.environ["SERVICE_RESULT"]

    def power_cut(self) -> None:
        """As kill -9, and nobody is left to notice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Host:
    """One host with one app. It is its own hostctl Host."""

    def __init__(self, root: Path, store: Store, bucket: str, program: Path, **more: Any) -> None:
        self.root, self.store, self.bucket_name, self.program = root, store, bucket, program
        self.app: App = Layout(root).app("shop")
        self.systemd = Units(self)
        self.path = self.app.data / "shop.db"
        for path in (self.app.config.parent, self.app.state, self.app.data, self.app.trees):
            path.mkdir(parents=True)
        self.app.config.write_text(json.dumps({"app": "shop", "user": USER, "deployers": [], "domains": ["shop.test"]}))
        self.configure(**more)
        keys = {"access_key_id": store.access, "secret_access_key": store.secret}
        settings.save_credentials(self.app, keys)

    def configure(self, extra: tuple[str, ...] = (), unsafe: bool = False, backup: object = True, **more: Any) -> None:
        """Write database.json; `more` are settings of the backup."""
        told: Json = self.store.backup(self.bucket_name, **more)._asdict()
        names = ("shop.db", *extra)
        document: Json = {"engine": "sqlite", "user": USER, "litestream": str(self.program)}
        document |= {"unsafe_checkpoints": "allow" if unsafe else "refuse"}
        document |= {"databases": [{"name": name, "path": str(self.app.data / name)} for name in names]}
        document |= {"backup": {**told, "ca": told["ca"] and str(told["ca"])} if backup else None}
        self.app.database.write_text(json.dumps(document))

    @property
    def databases(self) -> settings.Databases:
        return settings.require(self.app)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def clock(self) -> float:
        return time.monotonic()

    # ------------------------------------------------------------------------------- verbs

    def start(self, **more: Any) -> Json:
        return replication.start(self.app, self, **more)  # type: ignore[arg-type]

    def restart(self, why: str = "a test") -> None:
        replication.restart(self.app, self, why)  # type: ignore[arg-type]

    def watch(self) -> Json:
        return monitor.check(self.app, self)  # type: ignore[arg-type]

    def catch_up(self, name: str = "shop.db", patience: float = 30.0) -> int:
        return litestream.wait_until_stored(self.app, name, patience, self)  # type: ignore[arg-type]

    def stop(self) -> None:
        self.systemd.stop(self.app.stream_unit)

    # ------------------------------------------------------------------------------- looking

    def restored(self, epoch: str, at: float | None = None) -> Path:
        """The database as the bucket gives it back."""
        target = self.root / "restored.db"
        for suffix in ("", "-wal", "-shm"):
            Path(f"{target}{suffix}").unlink(missing_ok=True)
        litestream.restore(self.app, self.databases, epoch, "shop.db", target, at)
        return target

    def log(self) -> str:
        return (self.root / "litestream.log").read_text()


def rows(path: Path, table: str = "rows") -> list[int]:
    """The numbers in a file that nobody else has open."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return [n for (n,) in connection.execute(f"SELECT n FROM {table} ORDER BY n")]


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        return found == [("ok",)]


@contextmanager
def application(path: Path) -> Iterator[sqlite3.Connection]:
    """The app: a connection that never checkpoints while it is open."""
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    try:
        yield connection
    finally:
        connection.close()
