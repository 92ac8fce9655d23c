"""The engines an app's database may have. Here alone is it decided which one answers; the verbs hold no `if`.

Each concern of an engine is a module of its own, imported when it is asked for: what a verb needs, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hostctl.backup import settings
from hostctl.common.documents import DataSource
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hostctl.backup.epochs import Epoch
    from hostctl.host.host import Host
    from hostctl.journal.steps import Work


class Backups(Protocol):
    """`hostctl APP backup`, and what status tells. Every function raises HostError."""

    def summary(self, app: App, host: Host) -> Json:
        """The database and, under `backup`, its backup, from this host alone: no request leaves it."""

    def listing(self, app: App) -> Json:
        """Restore points, and per epoch of the bucket what can be restored."""

    def run(self, app: App, host: Host) -> None:
        """Everything written until now goes to S3, with a whole copy that nothing older is needed for."""

    def drill(self, app: App, host: Host) -> Json:
        """Restore the newest backup beside, and compare."""

    def takeover(self, app: App, host: Host) -> Epoch:
        """Make this host's database the one that counts."""

    def check(self, app: App) -> Json:
        """Beyond the bucket itself: whether the engine's own programs reach it from here."""


class Replication(Protocol):
    """`hostctl APP stream ACTION`."""

    def run_action(self, app: App, action: str, host: Host, allow_empty: bool = False) -> Json:
        """Do what a unit or provisioning asks. Raises HostError."""


class Restores(Protocol):
    """`hostctl APP restore` and `rollback --with-data`: data of another instant. Every function raises HostError.

    `data` is what the journal keeps of the wish: see restore.source.
    """

    def restorable_range(self, app: App, host: Host) -> tuple[float, float]:
        """The oldest and the newest instant that can be restored, in seconds since the epoch."""

    def row_changes(self, app: App, data: DataSource) -> Json:
        """What is known, without a restore, of the rows of each table now and then, by the database's name."""

    def live_rows(self, app: App) -> dict[str, dict[str, int]]:
        """The rows of each table of the live databases, by their names."""

    def fetch(self, work: Work) -> str:
        """The step: bring the data beside, whole and checked. Returns a line to show."""

    def discard_fetched(self, work: Work) -> None:
        """The undo of `fetch`."""

    def replace(self, work: Work) -> str:
        """The step: what was fetched takes the place of the live data, which goes aside."""

    def confirm(self, work: Work) -> None:
        """The app was found well on what `replace` brought: a lost host gets that back from now on."""

    def put_back(self, work: Work) -> None:
        """The undo of `replace`."""

    def kept_data(self, app: App) -> Mapping[str, int]:
        """What was given up and is kept where the live data is, not among the files aside: bytes, by name."""

    def delete_kept_data(self, app: App, name: str) -> None:
        """Delete one of `kept`, for good."""

    def scratch_directory(self, app: App) -> Path:
        """Where data is brought to for a look at it."""

    def restore_into(self, app: App, data: DataSource, into: Path, host: Host) -> Json:
        """The data below `into`, checked. Returns what was seen of each database, by name."""

    def extract(self, app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
        """One database of the data as one file below `into`, and what was seen of it."""


class Consoles(Protocol):
    """`hostctl APP db ACTION`. Every function raises HostError."""

    def database_name(self, app: App, name: str | None) -> str:
        """The name of the database of that name, else of the main one."""

    def open_console(self, app: App, name: str, write: bool) -> int:
        """A console on standard input and output, as the app's own user. Returns the exit code."""

    def copy(self, app: App, name: str, sql: bool, scratch: Path) -> Path:
        """A consistent copy as a file below `scratch`: in the engine's own form, or as SQL text."""

    def check_file(self, app: App, file: Path) -> None:
        """Whether a file may replace the live database."""


class Pushes(Protocol):
    """What a push asks before the gates. Every function raises HostError."""

    def check_release(self, work: Work) -> str | None:
        """Whether the database will bear the new release. Returns a line to show."""

    def cancel_check(self, work: Work) -> None:
        """The undo of `check`."""

    def no_point_reason(self, app: App) -> str | None:
        """Why no restore point is to be taken, whatever the release brings; None when one is."""

    def take_restore_point(self, work: Work, directory: Path) -> tuple[Json, str]:
        """Take a restore point: what belongs into its point.json, and a line to show."""

    def around_migrations(self, work: Work) -> AbstractContextManager[None]:
        """What comes before the release's migrations, and after them."""

    def applied_migrations(self, app: App) -> set[int] | None:
        """The migrations that the database names as applied; None when it keeps no table of them."""


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
    """What the verbs ask of an engine, by concern."""

    @property
    def name(self) -> str:
        """As deploy.yml says it."""

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
    """Files of the app's own, streamed by Litestream."""

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
        from hostctl.sqlite import database

        return database

    @property
    def pushes(self) -> Pushes:
        from hostctl.sqlite import push

        return push

    @property
    def removals(self) -> Removals:
        from hostctl.sqlite import removal

        return removal


class Postgres:
    """A cluster of the app's own, archived by pgBackRest and the tail."""

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
    """A server of somebody else's: its backups are its provider's."""

    name = "external"

    @property
    def backups(self) -> Backups:
        from hostctl.postgres import external_backup

        return external_backup

    @property
    def replication(self) -> Replication:
        from hostctl.postgres import external_backup

        return external_backup

    @property
    def restores(self) -> Restores:
        from hostctl.postgres import external_restore

        return external_restore

    @property
    def consoles(self) -> Consoles:
        from hostctl.postgres import external_console

        return external_console

    @property
    def pushes(self) -> Pushes:
        from hostctl.postgres import external

        return external

    @property
    def removals(self) -> Removals:
        from hostctl.postgres import external_removal

        return external_removal


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
    """As `of`, for what makes no sense without a database. Raises HostError (usage)."""
    found = of(app)
    if found is None:
        fix = "set database.engine, and run deploy provision"
        raise HostError(f"{app.name} has no database", "database in deploy.yml", fix, USAGE)
    return found
