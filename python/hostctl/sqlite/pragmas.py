"""Decides whether the SQLite settings of a release are safe for its backup.

With SQLite's default `wal_autocheckpoint` the app may checkpoint pages that Litestream has not read yet: the copy on S3
then lacks these rows, and nothing reports it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from hostctl.backup.settings import Databases
from hostctl.common.errors import HostError
from hostctl.sqlite.database import owner

MARK = "homeport-settings "
MIN_BUSY_TIMEOUT = 1000  # milliseconds
SOUND_SQLITE = (3, 51, 3)
ALLOW = "database.unsafe_checkpoints: allow in deploy.yml"


class Settings(NamedTuple):
    """The settings of one connection of the app. `path`: the file that SQLite opened; `busy_timeout`: milliseconds.

    `app` and `repo`: the application and repo of Elixir that configure it; empty where a program printed the settings.
    """

    path: str
    wal_autocheckpoint: int
    busy_timeout: int
    journal_mode: str
    sqlite_version: str
    app: str = ""
    repo: str = ""

    def who(self) -> str:
        """The name of the connection in a message."""
        return self.repo or self.path


class Verdict(NamedTuple):
    """Why the release must not go live (None: it may), and warnings."""

    refusal: HostError | None
    notes: list[str]


def describe(connection: Settings) -> str:
    """The settings of one connection in one line of text."""
    return (
        f"{connection.who()}: wal_autocheckpoint {connection.wal_autocheckpoint}, "
        f"busy_timeout {connection.busy_timeout} ms, journal_mode {connection.journal_mode}, "
        f"SQLite {connection.sqlite_version}"
    )


# ---------------------------------------------------------------------------------------------- reading


def parse(output: str) -> list[Settings]:
    """The settings in a release's output, which has one line with a JSON object for each database."""
    return [settings for line in output.splitlines() if (settings := _settings(line.removeprefix(MARK)))]


def _settings(line: str) -> Settings | None:
    with suppress(ValueError, KeyError, TypeError):
        document = json.loads(line)
        return Settings(
            path=str(document["path"] or ""),
            wal_autocheckpoint=int(document["wal_autocheckpoint"]),
            busy_timeout=int(document["busy_timeout"]),
            journal_mode=str(document["journal_mode"]),
            sqlite_version=str(document["sqlite_version"]),
            app=str(document.get("app", "")),
            repo=str(document.get("repo", "")),
        )
    return None


# ---------------------------------------------------------------------------------------------- verdict


def judge(connections: Sequence[Settings], dbs: Databases) -> Verdict:
    """Decide whether databases with these settings can be backed up.

    A file that is not streamed has no backup with any settings, so `unsafe_checkpoints` does not allow a wrong path.
    The app's user follows the links in the paths.
    """
    named = [*(str(database.path) for database in dbs.databases), *(connection.path for connection in connections)]
    real = owner.run(dbs.user, lambda: {path: os.path.realpath(path) if path else "" for path in named})
    streamed = {real[str(database.path)] for database in dbs.databases}
    own = [connection for connection in connections if real[connection.path] in streamed]
    others = [connection for connection in connections if connection.path and connection not in own]
    if real[str(dbs.main.path)] not in [real[connection.path] for connection in own]:
        return Verdict(_wrong_path(connections, dbs), [])
    bad = [connection for connection in own if faults(connection, dbs.backup is not None)]
    notes = [_not_backed_up(connection) for connection in others] + [
        text for connection in own for text in _warnings(connection, dbs)
    ]
    if not bad or dbs.unsafe:
        return Verdict(None, notes + [_remaining_risk(connection, dbs) for connection in bad])
    return Verdict(_unsafe(bad, dbs), notes)


def faults(connection: Settings, streams: bool = True) -> list[str]:
    """The faults of the settings, as phrases; `streams`: Litestream copies the database."""
    texts = []
    if streams and connection.wal_autocheckpoint > 0:
        texts.append(f"wal_autocheckpoint is {connection.wal_autocheckpoint}, and must be 0")
    if connection.busy_timeout < MIN_BUSY_TIMEOUT:
        texts.append(f"busy_timeout is {connection.busy_timeout} ms, and must be at least {MIN_BUSY_TIMEOUT}")
    if connection.journal_mode.lower() != "wal":
        texts.append(f"journal_mode is {connection.journal_mode}, and must be wal")
    return texts


def _unsafe(bad: Sequence[Settings], dbs: Databases) -> HostError:
    streams = dbs.backup is not None
    each = "; ".join(f"{connection.who()}: {', '.join(faults(connection, streams))}" for connection in bad)
    why = "rows would go missing in the middle of the backup" if streams else "a push would meet locked databases"
    fix = (
        "\n".join(_configuration(connection) for connection in bad)
        + "\n  then push again; for an app that cannot change: "
        + ALLOW
    )
    return HostError(f"this release's settings of SQLite are not safe ({why}): {each}", _where(bad[0]), fix)


def _where(connection: Settings) -> str:
    return f"config/runtime.exs, {connection.repo}" if connection.repo else connection.path


def _configuration(connection: Settings) -> str:
    """The lines of configuration that make the settings safe."""
    wal = connection.journal_mode.lower() != "wal"
    if connection.repo:
        lines = ["wal_auto_check_point: 0", "busy_timeout: 5000"] + ["journal_mode: :wal"] * wal
        return "in config/runtime.exs:" + "".join(
            f"\n    config :{connection.app}, {connection.repo}, {line}" for line in lines
        )
    lines = ["wal_autocheckpoint = 0", "busy_timeout = 5000"] + ["journal_mode = wal"] * wal
    return "on every connection:" + "".join(f"\n    PRAGMA {line}" for line in lines)


def _wrong_path(connections: Sequence[Settings], dbs: Databases) -> HostError:
    opened = ", ".join(connection.path or "a database in memory" for connection in connections)
    what = f"the release writes to {opened}, and only {dbs.main.path} is kept and backed up"
    repo = next((connection for connection in connections if connection.repo), None)
    line = f'config :{repo.app}, {repo.repo}, database: System.fetch_env!("DATABASE_PATH")' if repo else ""
    fix = f"in config/runtime.exs:\n    {line}" if line else "open the file that DATABASE_PATH names"
    return HostError(what, _where(connections[0]), f"{fix}\n  or name that file as database.path in deploy.yml")


# ---------------------------------------------------------------------------------------------- warnings


def _warnings(connection: Settings, dbs: Databases) -> list[str]:
    texts = []
    if not _is_sound(connection.sqlite_version):
        texts.append(
            f"{connection.who()} has SQLite {connection.sqlite_version}: before 3.51.3 two connections that checkpoint "
            "and write at the same moment can corrupt the database (the WAL-reset bug); exqlite has a corrected one "
            "since 0.36.0"
        )
    if dbs.backup is None and connection.wal_autocheckpoint <= 0:
        texts.append(
            f"{connection.who()} never checkpoints, and without a backup no other process does: its -wal file grows "
            "without end; configure backup, or set wal_autocheckpoint to SQLite's default"
        )
    return texts


def _is_sound(version: str) -> bool:
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    return numbers >= SOUND_SQLITE


def _not_backed_up(connection: Settings) -> str:
    fix = "name it in backup.extra if it should be"
    return f"{connection.who()} writes to {connection.path}, which is not backed up: {fix}"


def _remaining_risk(connection: Settings, dbs: Databases) -> str:
    wrong = ", ".join(faults(connection, dbs.backup is not None))
    return (
        f"unsafe_checkpoints is allowed, though for {connection.who()} {wrong}. Homeport keeps planned restarts of "
        "Litestream safe and forces a snapshot after every unplanned end. Until that snapshot the backup may lack rows "
        "in its middle; the drill, which now runs daily, finds this"
    )
