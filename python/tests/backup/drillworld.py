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

from hostctl import databases, drill, lineage, litestream, sqlite, sqlite_drill
from hostctl.edges import Edges
from hostctl.errors import FAILED, HostError
from hostctl.files import Json
from hostctl.layout import App, Layout

PATIENCE = 30.0


class DrillWorld:
    """One app with one streamed database."""

    def __init__(self, root: Path, store: Store, bucket: str, program: Path, **more: object) -> None:
        self.store, self.name, self.program = store, bucket, program
        self.app: App = Layout(root).app("shop")
        self.path = self.app.data / "shop.db"
        self.process: subprocess.Popen[bytes] | None = None
        self.settings: Json = {}  # of Litestream, beside hostctl's own
        for directory in (self.app.database.parent, self.app.data, self.app.backup, self.app.stream_runtime):
            directory.mkdir(parents=True)
        self.configure(**more)
        keys = {"access_key_id": store.access, "secret_access_key": store.secret}
        databases.keep_credentials(self.app, keys)
        sqlite.create(self.path)
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
        with sqlite.writing(self.path) as connection:
            for statement in statements:
                connection.execute(statement)

    def add(self, count: int) -> None:
        """Rows, each its own transaction, as an app writes them."""
        with sqlite.writing(self.path) as connection:
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
        dbs = databases.require(self.app)
        mine = lineage.local(self.app) or lineage.open_epoch(self.app, None, "test")
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
                litestream.catch_up(self.app, "shop.db", PATIENCE, Edges())
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
        mine = lineage.local(self.app)
        assert mine is not None
        self.stop()
        litestream.send(self.app, databases.require(self.app), mine.epoch, snapshot=True)
        self.start()

    def begin_anew(self) -> None:
        """An epoch of its own: nothing that was stored before is ever mixed with what comes."""
        self.stop()
        litestream.disown(self.path)
        lineage.open_epoch(self.app, lineage.local(self.app), "the copy was damaged")
        self.start()

    def compacted(self) -> None:
        """Wait until Litestream has made one object of all that it had stored."""
        before, deadline = len(self.objects(1)), time.monotonic() + PATIENCE
        while len(self.objects(1)) <= before + 1:
            self.add(1)
            assert time.monotonic() < deadline
            time.sleep(0.1)

    @contextlib.contextmanager
    def torn(self) -> Iterator[None]:
        """An app with SQLite's default settings, which wrote while Litestream was away for a moment.

        Its connection checkpointed what Litestream had not seen, and then began the log anew. Litestream, back again,
        finds the last part that it had seen still in the file, and goes on as if nothing were missing.
        """
        self.add(200)
        self.uploaded()
        self.stop()
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as unsafe:
            log = self.path.with_name("shop.db-wal")
            salt = log.read_bytes()[16:24]
            while log.read_bytes()[16:24] == salt:
                unsafe.execute("INSERT INTO entries(body) VALUES (hex(randomblob(200)))")
            self.start()
            yield

    # ------------------------------------------------------------------------------- the bucket

    def objects(self, level: int) -> list[str]:
        """The keys of a level, oldest first; level 9 holds the snapshots."""
        mine = lineage.local(self.app)
        assert mine is not None
        found = self.store.bucket(self.name).list(f"shop/{mine.epoch}/shop.db/{level:04d}/")
        return [one.key for one in found]

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

    # ------------------------------------------------------------------------------- the drill

    def drill(self) -> Json:
        return sqlite_drill.run(self.app, Edges())

    def failed(self) -> Json:
        """A drill that must fail; what it wrote down."""
        with pytest.raises(HostError) as failure:
            self.drill()
        told = drill.last(self.app)
        assert told is not None, failure.value.what
        assert failure.value.code == FAILED
        return {**told, "error": failure.value}
