"""A host in a directory whose app has a SQLite database: real files and real SQLite; the replica on S3 is made up."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from hostworld import FakeSystemd, World, unlaunched

from hostctl.backup.settings import Database, Databases
from hostctl.common.errors import HostError
from hostctl.common.files import make_directory, read_json, write_json
from hostctl.common.net.http import Answer
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.release import records
from hostctl.sqlite.database.file_swap import sidecar_paths
from hostctl.transitions import begin
from hostctl.transitions.steps import restore

FIRST = "e1"
MIGRATION = "defmodule Shop.It do\n  use Ecto.Migration\n\n  def change do\n    {}\n  end\nend\n"


class DataSystemd(FakeSystemd):
    """Instances write to the database when they start; a migration does to it what the test wants."""

    world: DataWorld

    def start(self, unit: str) -> None:
        super().start(unit)
        if "@" in unit:
            release = unit.partition("@")[2].removesuffix(".service")
            self.world.listening[unit] = int(records.environment(self.world.app, release)["PORT"])
            self.world.execute(f"INSERT INTO boots VALUES ('{unit}')")

    def foreground(self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]) -> int:
        if unlaunched(argv)[0].endswith("bin/migrate"):
            self.world.execute(self.world.migration)
            return super().foreground(unit, argv, properties, output)
        facts = {"path": str(self.world.database), "wal_autocheckpoint": 0, "busy_timeout": 5000}
        facts |= {"journal_mode": "wal", "sqlite_version": "3.53.0"}
        output.write(b"homeport-settings " + json.dumps(facts).encode() + b"\n")
        return 0


class FakeReplica:
    """What the stream left on S3: one file, whatever the instant. It streams while its unit runs."""

    def __init__(self, world: DataWorld) -> None:
        self.world = world
        self.away = False
        self.kept: Path | None = None

    def epoch(self, app: App) -> str | None:
        return str((read_json(app.backup / "epoch.json") or {"epoch": FIRST})["epoch"])

    def pause(self, app: App, host: Host) -> None:
        make_directory(app.backup, 0o700)
        write_json(app.backup / "paused", {})
        host.systemd.stop(app.stream_unit)

    def resume(self, app: App, host: Host) -> None:
        (app.backup / "paused").unlink(missing_ok=True)
        host.systemd.start(app.stream_unit)

    def branch(self, app: App, dbs: Databases, why: str) -> bool:
        write_json(app.backup / "epoch.json", {"epoch": f"{self.epoch(app)}+"})
        return not self.away

    def back_to(self, app: App, dbs: Databases, epoch: str | None) -> None:
        make_directory(app.backup, 0o700)
        write_json(app.backup / "epoch.json", {"epoch": epoch})

    def reach(self, app: App, dbs: Databases) -> tuple[float, float]:
        return 1000.0, 2000.0

    def fetch(self, app: App, dbs: Databases, database: Database, target: Path, at: float | None) -> bool:
        if self.away:
            raise HostError("S3 did not answer")
        if self.kept is None:
            return False
        shutil.copy(self.kept, target)
        return True

    def caught_up(self, app: App, host: Host, name: str, patience: float) -> dict[str, Any]:
        return {"txid": 7}


class DataWorld(World):
    """`items` holds the rows that a test compares; each release brings a migration of its own."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.systemd: DataSystemd = DataSystemd(self)
        self.replica = FakeReplica(self)
        self.migration = ""
        self.code = "create table(:more)"  # of the migration of the next release
        self.versions: list[str] = []
        self.listening: dict[str, int] = {}
        self.database = self.app.data / "shop.db"

    def provision(self, **more: object) -> None:
        super().provision(**more)
        told = {"engine": "sqlite", "user": "shop", "litestream": "/bin/false", "unsafe_checkpoints": "refuse"}
        told |= {"databases": [{"name": "shop.db", "path": str(self.database)}]}
        told |= {"backup": {"bucket": "b", "prefix": "shop", "region": "us-east-1"}}
        self.app.database.write_text(json.dumps(told))
        if not self.database.exists():
            self.app.data.mkdir(parents=True, exist_ok=True)
            self.execute("PRAGMA journal_mode=WAL; CREATE TABLE items(n); CREATE TABLE boots(unit)")
            self.running.add(self.app.stream_unit)

    def release_files(self, source: Path, version: str) -> None:
        migrations = source / "lib/shop-1/priv/repo/migrations"
        migrations.mkdir(parents=True)
        self.versions += [version] if version not in self.versions else []
        number = 20260101000000 + self.versions.index(version)
        (migrations / f"{number}_{version}.exs").write_text(MIGRATION.format(self.code))

    def spec(self, version: str, **more: object) -> dict[str, Any]:
        found = super().spec(version, **more)
        told = {"engine": "sqlite", "path": str(self.database), "settings": None, "unsafe_checkpoints": "refuse"}
        found["settings"]["database"] = told
        return found

    def reboot(self) -> None:
        """systemd starts the stream by itself. It would restore into the place of a database that it does not find."""
        super().reboot()
        if not (self.app.backup / "paused").exists():
            assert self.database.exists()
            self.running.add(self.app.stream_unit)

    def _instance(self, port: int) -> Answer:
        """An instance listens on the port that its environment named when it started."""
        for unit in self.running & self.listening.keys():
            if self.listening[unit] == port:
                how = self.sick.get(unit.partition("@")[2].removesuffix(".service"))
                return {None: Answer(200), "500": Answer(500)}.get(how, Answer(0, why="refused", detail="nothing"))
        return Answer(0, why="refused", detail="nothing listens there yet")

    # ------------------------------------------------------------------------------- the database

    def execute(self, script: str, path: Path | None = None) -> None:
        """Run statements, and close: SQLite then checkpoints."""
        with closing(sqlite3.connect(path or self.database)) as connection:
            connection.executescript(script)

    def write(self, *rows: object) -> None:
        self.execute("".join(f"INSERT INTO items VALUES ('{row}');" for row in rows))

    def rows(self, path: Path | None = None) -> list[str]:
        """What `items` holds, read from a copy so that nothing here is touched. Fails unless the file is sound."""
        path = path or self.database
        with scratch(path) as copied, closing(sqlite3.connect(copied)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return [str(n) for (n,) in connection.execute("SELECT n FROM items ORDER BY rowid")]

    def leave_in_log(self, *rows: object) -> None:
        """Rows that are in the write-ahead log alone, as after a stop in the middle of things."""
        with closing(sqlite3.connect(self.database)) as connection:
            for row in rows:
                connection.execute("INSERT INTO items VALUES (?)", (str(row),))
            connection.commit()
            kept = {path: path.read_bytes() for path in (self.database, sidecar_paths(self.database)[0])}
        for path, data in kept.items():
            path.write_bytes(data)
        meta = sidecar_paths(self.database)[-1]
        meta.mkdir(exist_ok=True)
        (meta / "ltx").write_text("what Litestream remembers")

    # ------------------------------------------------------------------------------- what a person does

    def rollback_with_data(self, to: str | None = None) -> dict[str, Any]:
        self.result = None
        begin.rollback_with_data(self.app, to, None, "ann", "198.51.100.9", 0, self.host)
        assert self.result is not None
        return self.result

    def restore(self, at: float | None = None, point: str | None = None) -> dict[str, Any]:
        self.result = None
        data = restore.source(self.app, at, point, self.host)
        begin.restore_in_place(self.app, data, "ann", "198.51.100.9", 0, self.host)
        assert self.result is not None
        return self.result

    @property
    def host(self) -> Host:
        return self  # type: ignore[return-value]


class scratch:  # noqa: N801 - used as a context manager
    """A copy of a database with its log, in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = Path()

    def __enter__(self) -> Path:
        import tempfile

        self.directory = Path(tempfile.mkdtemp(prefix="hostctl-test-"))
        for each in (self.path, sidecar_paths(self.path)[0]):
            if each.exists():
                shutil.copy(each, self.directory)
        return self.directory / self.path.name

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.directory)
