"""The registry of database engines. Only this module chooses by engine; the verbs call the Protocols.

Each concern of an engine is a module of its own, imported when it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hostctl.backup import settings
from hostctl.common.documents import DataSource, DrillResult
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hostctl.backup.epochs import Epoch
    from hostctl.host.host import Host
    from hostctl.journal.engine import Work


class Backups(Protocol):
    """`hostctl APP backup`, and the database in `status`. Every function raises HostError."""

    def summary(self, app: App, host: Host) -> Json:
        """The database and, under `backup`, its backup, from this host alone: no request to S3."""

    def listing(self, app: App) -> Json:
        """Restore points, and for each epoch of the bucket the times that can be restored."""

    def run(self, app: App, host: Host) -> None:
        """Send everything written so far to S3, with a full snapshot or base backup where one is due."""

    def drill(self, app: App, host: Host) -> DrillResult:
        """Restore the newest backup into a scratch directory, and compare it with the live database."""

    def takeover(self, app: App, host: Host) -> Epoch:
        """Make this host's database the current one."""

    def check(self, app: App) -> Json:
        """Whether the engine's own programs reach the bucket from here."""


class Replication(Protocol):
    """`hostctl APP stream ACTION`."""

    def run_action(self, app: App, action: str, host: Host, allow_empty: bool = False) -> Json:
        """Perform the action of a unit or of provisioning. Raises HostError."""


class Restores(Protocol):
    """`hostctl APP restore` and `rollback --with-data`. Every function raises HostError.

    `data` is the journal's source of the restore: see transitions/steps/restore.source.
    """

    def restorable_range(self, app: App, host: Host) -> tuple[float, float]:
        """The oldest and the newest instant that can be restored, in seconds since the epoch."""

    def row_changes(self, app: App, data: DataSource) -> Json:
        """The rows of each table now and then, by database, as far as they are known without a restore."""

    def live_rows(self, app: App) -> dict[str, dict[str, int]]:
        """The rows of each table of the live databases, by database."""

    def fetch(self, work: Work) -> str:
        """The step: fetch the data beside the live data, and check it. Returns a line to show."""

    def discard_fetched(self, work: Work) -> None:
        """The undo of `fetch`."""

    def replace(self, work: Work) -> str:
        """The step: the fetched data replaces the live data, which is kept."""

    def confirm(self, work: Work) -> None:
        """The app is healthy on the new data: it is current from now on."""

    def put_back(self, work: Work) -> None:
        """The undo of `replace`."""

    def kept_data(self, app: App) -> Mapping[str, int]:
        """Replaced data that is kept as databases and not as files: bytes, by name."""

    def delete_kept_data(self, app: App, name: str) -> None:
        """Delete one of `kept_data`."""

    def scratch_directory(self, app: App) -> Path:
        """Where data is restored that only an inspection needs."""

    def restore_into(self, app: App, data: DataSource, into: Path, host: Host) -> Json:
        """Restore the data below `into`, and check it. Returns what is in each database, by name."""

    def extract(self, app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
        """Restore one database as one file below `into`. Returns the file, and what is in the database."""


class Consoles(Protocol):
    """`hostctl APP db ACTION`. Every function raises HostError."""

    def database_name(self, app: App, name: str | None) -> str:
        """The name of the database of that name, else of the main one."""

    def open_console(self, app: App, name: str, write: bool) -> int:
        """Open a console on standard input and output, as the app's own user. Returns the exit code."""

    def copy(self, app: App, name: str, sql: bool, scratch: Path) -> Path:
        """Write a consistent copy as a file below `scratch`: in the engine's format, or as SQL text."""

    def check_file(self, app: App, file: Path) -> None:
        """Raises HostError unless the file may replace the live database."""


class Pushes(Protocol):
    """What a push needs of a database before it is run. Every function raises HostError."""

    def check_release(self, work: Work) -> str | None:
        """Check that the database can serve the new release. Returns a line to show."""

    def cancel_check(self, work: Work) -> None:
        """The undo of `check_release`."""

    def no_point_reason(self, app: App) -> str | None:
        """Why no restore point can or need be taken; None when one is to be taken."""

    def take_restore_point(self, work: Work, directory: Path) -> tuple[Json, str]:
        """Take a restore point: the keys for its point.json, and a line to show."""

    def around_migrations(self, work: Work) -> AbstractContextManager[None]:
        """A context in which the release's migrations run."""

    def applied_migrations(self, app: App) -> set[int] | None:
        """The versions in schema_migrations; None without that table."""


class Removals(Protocol):
    """An app's data when the app is removed. Every function raises HostError."""

    def databases(self, app: App, host: Host) -> list[Json]:
        """`name`, `path` and `bytes` of each database on this host."""

    def snapshot(self, app: App, host: Host) -> None:
        """Take a whole backup while the app serves."""

    def finish(self, app: App, host: Host) -> None:
        """Send everything that was written to S3, check that it is there, and stop the database. The app is stopped."""

    def stop(self, app: App, host: Host) -> None:
        """Stop the database and its replication, whatever S3 has of it."""

    def resume(self, app: App, host: Host) -> None:
        """The undo of `finish` and `stop`."""

    def delete(self, app: App) -> None:
        """Delete the database, of which S3 has everything."""


class Engine(Protocol):
    """A database engine, by concern."""

    @property
    def name(self) -> str:
        """The name in deploy.yml."""

    @property
    def backups(self) -> Backups: ...

    @property
    def replication(self) -> Replication: ...

    @property
    def restores(self) -> Restores: ...

    @property
    def consoles(self) -> Consoles: ...

    @property
    def pushes(self) -> Pushes: ...

    @property
    def removals(self) -> Removals: ...


class Sqlite:
    """SQLite files of the app, replicated by Litestream."""

    name = "sqlite"

    @property
    def backups(self) -> Backups:
        from hostctl.sqlite import backup

        return backup

    @property
    def replication(self) -> Replication:
        from hostctl.sqlite import commands

        return commands

    @property
    def restores(self) -> Restores:
        from hostctl.sqlite import restore

        return restore

    @property
    def consoles(self) -> Consoles:
        from hostctl.sqlite import console

        return console

    @property
    def pushes(self) -> Pushes:
        from hostctl.sqlite import push

        return push

    @property
    def removals(self) -> Removals:
        from hostctl.sqlite import removal

        return removal


class Postgres:
    """A PostgreSQL cluster of the app, archived by pgBackRest and the WAL stream."""

    name = "postgres"

    @property
    def backups(self) -> Backups:
        from hostctl.postgres import backup

        return backup

    @property
    def replication(self) -> Replication:
        from hostctl.postgres import commands

        return commands

    @property
    def restores(self) -> Restores:
        from hostctl.postgres import restore

        return restore

    @property
    def consoles(self) -> Consoles:
        from hostctl.postgres import console

        return console

    @property
    def pushes(self) -> Pushes:
        from hostctl.postgres import push

        return push

    @property
    def removals(self) -> Removals:
        from hostctl.postgres import removal

        return removal


class External:
    """A PostgreSQL server of a provider, which also makes the backups."""

    name = "external"

    @property
    def backups(self) -> Backups:
        from hostctl.postgres.external import backup

        return backup

    @property
    def replication(self) -> Replication:
        from hostctl.postgres.external import backup

        return backup

    @property
    def restores(self) -> Restores:
        from hostctl.postgres.external import restore

        return restore

    @property
    def consoles(self) -> Consoles:
        from hostctl.postgres.external import console

        return console

    @property
    def pushes(self) -> Pushes:
        from hostctl.postgres.external import push

        return push

    @property
    def removals(self) -> Removals:
        from hostctl.postgres.external import removal

        return removal


ENGINES: tuple[Engine, ...] = (Sqlite(), Postgres(), External())


def of(app: App) -> Engine | None:
    """The engine of the app's database; None for an app without one. Raises HostError (usage)."""
    name = settings.engine(app)
    if name is None:
        return None
    for engine in ENGINES:
        if engine.name == name:
            return engine
    raise HostError(f"there is no engine {name[:40]!r}", str(app.database), "deploy provision", USAGE)


def require(app: App) -> Engine:
    """As `of`, but raises HostError (usage) for an app without a database."""
    found = of(app)
    if found is None:
        fix = "set database.engine, and run deploy provision"
        raise HostError(f"{app.name} has no database", "database in deploy.yml", fix, USAGE)
    return found
