"""A host in a directory whose database really streams: real files, the real Litestream, a real bucket, and no units."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from objectstore import Store, die_with_parent

from hostctl.backup import drill, epochs, settings
from hostctl.backup.s3 import Object
from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App, Layout
from hostctl.host.host import Host
from hostctl.sqlite.database import files
from hostctl.sqlite.stream import drill as sqlite_drill
from hostctl.sqlite.stream import litestream

PATIENCE = 30.0
FAR = range(100, 600)  # frames of the log: more than a new one begins with, and long before SQLite checkpoints at 1000


def frames(log: Path) -> int:
    """How many frames a write-ahead log holds since it last began anew: those of its own salt."""
    with log.open("rb") as file:
        header = file.read(32)
        size = 24 + int.from_bytes(header[8:12], "big")
        count = 0
        while file.read(size)[8:16] == header[16:24]:
            count += 1
    return count


def transactions(key: str) -> tuple[int, int]:
    """The first and last transaction of an object, from its name: FIRST-LAST.ltx, in hexadecimal."""
    first, last = key.rpartition("/")[2].removesuffix(".ltx").split("-")
    return int(first, 16), int(last, 16)


class DrillWorld:
    """One app with one streamed database."""

    def __init__(self, root: Path, store: Store, bucket: str, program: Path, **more: object) -> None:
        self.store, self.name, self.program = store, bucket, program
        self.app: App = Layout(root).app("shop")
        self.path = self.app.data / "shop.db"
        self.process: subprocess.Popen[bytes] | None = None
        self.settings: Json = {}  # of Litestream, beside hostctl's own
        runtime = self.app.stream_runtime / litestream.SOCKETS
        for directory in (self.app.database.parent, self.app.data, self.app.backup, runtime):
            directory.mkdir(parents=True)
        self.configure(**more)
        keys = {"access_key_id": store.access, "secret_access_key": store.secret}
        settings.save_credentials(self.app, keys)
        files.create(self.path)
        self.sql(
            "CREATE TABLE entries(id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT)",
            "CREATE INDEX by_body ON entries(body)",
            "CREATE TABLE schema_migrations(version INTEGER PRIMARY KEY)",
            "INSERT INTO schema_migrations VALUES (20260101000000)",
        )

    def configure(self, **more: object) -> None:
        """Write database.json."""
        backup = {"bucket": self.name, "prefix": "shop", "region": "us-east-1", "endpoint": self.store.endpoint}
        backup |= {"path_style": True, "interval": 0.1, **more}
        told = {"engine": "sqlite", "user": "shop", "litestream": str(self.program), "unsafe_checkpoints": "refuse"}
        told |= {"databases": [{"name": "shop.db", "path": str(self.path)}], "backup": backup}
        self.app.database.write_text(json.dumps(told))

    # ------------------------------------------------------------------------------- the database

    def sql(self, *statements: str) -> None:
        with files.writing(self.path) as connection:
            for statement in statements:
                connection.execute(statement)

    def add(self, count: int) -> None:
        """Rows, each its own transaction, as an app writes them."""
        with files.writing(self.path) as connection:
            for _ in range(count):
                connection.execute("INSERT INTO entries(body) VALUES (hex(randomblob(200)))")

    @contextlib.contextmanager
    def under_load(self) -> Iterator[None]:
        """Rows all the while."""
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(0.003):
                self.add(1)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            stop.set()
            writer.join()

    # ------------------------------------------------------------------------------- the stream

    def start(self) -> None:
        """Open an epoch if there is none, and stream into it."""
        dbs = settings.require(self.app)
        mine = epochs.local(self.app) or epochs.open_epoch(self.app, None, "test")
        configuration = self.app.stream_runtime / "litestream.yml"
        told = json.loads(litestream.config(self.app, dbs, mine.epoch))
        configuration.write_text(json.dumps({**told, **self.settings}))
        with (self.app.stream_runtime / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "replicate", "-config", configuration],
                env=litestream.environment(self.app, dbs),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        self.uploaded()

    def uploaded(self) -> None:
        """Wait until everything that is written is on S3."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(HostError):
                litestream.wait_until_stored(self.app, "shop.db", PATIENCE, Host())
                return
            assert time.monotonic() < deadline, (self.app.stream_runtime / "log").read_text()[-3000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """A clean stop: what is written is on S3."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.process = None

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def snapshot(self) -> None:
        """What a planned restart does: a whole snapshot while nothing streams."""
        mine = epochs.local(self.app)
        assert mine is not None
        self.stop()
        litestream.send_pending(self.app, settings.require(self.app), mine.epoch, snapshot=True)
        self.start()

    def begin_anew(self) -> None:
        """An epoch of its own: nothing that was stored before is ever mixed with what comes."""
        self.stop()
        litestream.forget_state(self.path)
        epochs.open_epoch(self.app, epochs.local(self.app), "the copy was damaged")
        self.start()

    def compacted(self) -> None:
        """Wait until Litestream has made one object of all that it had stored."""
        before, deadline = len(self.objects(1)), time.monotonic() + PATIENCE
        while len(self.objects(1)) <= before + 1:
            self.add(1)
            assert time.monotonic() < deadline
            time.sleep(0.1)

    @contextlib.contextmanager
    def torn(self) -> Iterator[int]:
        """An app with SQLite's default settings, which wrote while Litestream was away for a moment; the last
        transaction that was stored before.

        Its connection checkpointed what Litestream had not seen, and then began the log anew. Litestream, back again,
        finds the last part that it had seen still in the file, and goes on as if nothing were missing.
        """
        self.snapshotted()
        while True:
            self.stop_deep()
            last = self.newest()
            with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as unsafe:
                self._tear(unsafe)
                self.start()
                if not self._noticed(last):
                    yield last
                    return

    def _tear(self, unsafe: sqlite3.Connection) -> None:
        log = self.path.with_name("shop.db-wal")
        salt = log.read_bytes()[16:24]
        while log.read_bytes()[16:24] == salt:
            unsafe.execute("INSERT INTO entries(body) VALUES (hex(randomblob(200)))")

    def _noticed(self, last: int) -> bool:
        """Whether Litestream, this time, saw that something is missing, and stored every page anew. Only once it has
        looked (under load, the part that it would go on from is soon overwritten)."""
        deadline = time.monotonic() + PATIENCE
        while self.newest() <= last:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = self._stored(0)
        return any(transactions(one.key)[0] > last and one.size > self.path.stat().st_size // 4 for one in found)

    def snapshotted(self) -> None:
        """Wait for an epoch's first snapshot, which comes in its own time: it would cover a hole that was there."""
        deadline = time.monotonic() + PATIENCE
        while not self.objects(9):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def stop_deep(self) -> None:
        """Stop with the last part that was seen far in the log, and far from its end. Were it at the beginning, it
        would be overwritten at once, and Litestream would notice; at the end, hardly a row would be missed."""
        while True:
            self.add(60)
            self.uploaded()
            self.stop()
            if frames(self.path.with_name("shop.db-wal")) in FAR:
                return
            self.start()

    # ------------------------------------------------------------------------------- the bucket

    def objects(self, level: int) -> list[str]:
        """The keys of a level, oldest first; level 9 holds the snapshots."""
        return [one.key for one in self._stored(level)]

    def _stored(self, level: int) -> list[Object]:
        mine = epochs.local(self.app)
        assert mine is not None
        return list(self.store.bucket(self.name).list(f"shop/{mine.epoch}/shop.db/{level:04d}/"))

    def spoil(self, key: str) -> None:
        """A byte in the middle of an object is another one."""
        bucket = self.store.bucket(self.name)
        found = bucket.get(key)
        assert found is not None
        data = bytearray(found[0])
        data[len(data) // 2] ^= 0xFF
        bucket.put(key, bytes(data))

    def truncate(self, key: str) -> None:
        bucket = self.store.bucket(self.name)
        found = bucket.get(key)
        assert found is not None
        bucket.put(key, found[0][: len(found[0]) // 2])

    def spans(self, since: int) -> bool:
        """Whether an object that Litestream compacted holds what lies on both sides of the newest snapshot, from the
        transaction after `since` on."""
        (snapshot,) = (last for _, last in map(transactions, self.objects(9)[-1:]))
        return any(first <= since + 1 and last > snapshot for first, last in map(transactions, self.objects(1)))

    def newest(self) -> int:
        """The last transaction that is stored."""
        return max(last for _, last in map(transactions, self.objects(0)))

    # ------------------------------------------------------------------------------- the drill

    def drill(self) -> Json:
        return sqlite_drill.run(self.app, Host())

    def failed(self) -> Json:
        """A drill that must fail; what it wrote down."""
        with pytest.raises(HostError) as failure:
            self.drill()
        told = drill.last_result(self.app)
        assert told is not None, failure.value.what
        assert failure.value.code == FAILED
        return {**told, "error": failure.value}
