"""What a release says of its SQLite connections, and what follows from it for the backup.

With SQLite's own `wal_autocheckpoint` the app checkpoints behind Litestream's back, and the copy on S3 loses rows in
its middle without a word.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from hostctl.backup.settings import Databases
from hostctl.common.errors import HostError

MARK = "homeport-settings "
LEAST_BUSY_MS = 1000
SOUND_SQLITE = (3, 51, 3)
ALLOW = "database.unsafe_checkpoints: allow in deploy.yml"


class Settings(NamedTuple):
    """What one connection of the app has. `path` is the file SQLite opened, `busy_timeout` in milliseconds.

    `app` and `repo` are Elixir's names of who configures it, empty where a program told the settings.
    """

    path: str
    wal_autocheckpoint: int
    busy_timeout: int
    journal_mode: str
    sqlite_version: str
    app: str = ""
    repo: str = ""

    def who(self) -> str:
        return self.repo or self.path


class Verdict(NamedTuple):
    """What follows: why the release must not go live (or None), and what a person should know all the same."""

    refusal: HostError | None
    notes: list[str]


def describe(one: Settings) -> str:
    """The settings of one connection, for a person."""
    return (
        f"{one.who()}: wal_autocheckpoint {one.wal_autocheckpoint}, busy_timeout {one.busy_timeout} ms, "
        f"journal_mode {one.journal_mode}, SQLite {one.sqlite_version}"
    )


# ---------------------------------------------------------------------------------------------- reading


def parse(output: str) -> list[Settings]:
    """The settings in what a release printed: a JSON object on a line of its own for each database."""
    return [settings for line in output.splitlines() if (settings := _settings(line.removeprefix(MARK)))]


def _settings(line: str) -> Settings | None:
    with suppress(ValueError, KeyError, TypeError):
        given = json.loads(line)
        return Settings(
            path=str(given["path"] or ""),
            wal_autocheckpoint=int(given["wal_autocheckpoint"]),
            busy_timeout=int(given["busy_timeout"]),
            journal_mode=str(given["journal_mode"]),
            sqlite_version=str(given["sqlite_version"]),
            app=str(given.get("app", "")),
            repo=str(given.get("repo", "")),
        )
    return None


# ---------------------------------------------------------------------------------------------- judging


def judge(found: Sequence[Settings], dbs: Databases) -> Verdict:
    """Whether databases that are used with these settings can be backed up.

    A file that is not streamed has no backup whatever its settings are, so `unsafe_checkpoints` excuses no wrong path.
    """
    streamed = {os.path.realpath(database.path) for database in dbs.databases}
    own = [one for one in found if _real(one) in streamed]
    strangers = [one for one in found if one.path and one not in own]
    if os.path.realpath(dbs.main.path) not in map(_real, own):
        return Verdict(_elsewhere(found, dbs), [])
    bad = [one for one in own if faults(one, dbs.backup is not None)]
    notes = [_aside(one) for one in strangers] + [text for one in own for text in _warnings(one, dbs)]
    if not bad or dbs.unsafe:
        return Verdict(None, notes + [_left_open(one, dbs) for one in bad])
    return Verdict(_unsafe(bad, dbs), notes)


def _real(one: Settings) -> str:
    return os.path.realpath(one.path) if one.path else ""


def faults(one: Settings, streams: bool = True) -> list[str]:
    """What is wrong with the settings, as phrases; `streams`: Litestream copies the database."""
    found = []
    if streams and one.wal_autocheckpoint > 0:
        found.append(f"wal_autocheckpoint is {one.wal_autocheckpoint}, and must be 0")
    if one.busy_timeout < LEAST_BUSY_MS:
        found.append(f"busy_timeout is {one.busy_timeout} ms, and must be at least {LEAST_BUSY_MS}")
    if one.journal_mode.lower() != "wal":
        found.append(f"journal_mode is {one.journal_mode}, and must be wal")
    return found


def _unsafe(bad: Sequence[Settings], dbs: Databases) -> HostError:
    streams = dbs.backup is not None
    each = "; ".join(f"{one.who()}: {', '.join(faults(one, streams))}" for one in bad)
    why = "rows would go missing in the middle of the backup" if streams else "a push would meet locked databases"
    fix = "\n".join(_mend(one) for one in bad) + "\n  then push again; for an app that cannot change: " + ALLOW
    return HostError(f"this release's settings of SQLite are not safe ({why}): {each}", _where(bad[0]), fix)


def _where(one: Settings) -> str:
    return f"config/runtime.exs, {one.repo}" if one.repo else one.path


def _mend(one: Settings) -> str:
    """The lines of configuration that make the settings safe."""
    wal = one.journal_mode.lower() != "wal"
    if one.repo:
        lines = ["wal_auto_check_point: 0", "busy_timeout: 5000"] + ["journal_mode: :wal"] * wal
        return "in config/runtime.exs:" + "".join(f"\n    config :{one.app}, {one.repo}, {line}" for line in lines)
    lines = ["wal_autocheckpoint = 0", "busy_timeout = 5000"] + ["journal_mode = wal"] * wal
    return "on every connection:" + "".join(f"\n    PRAGMA {line}" for line in lines)


def _elsewhere(found: Sequence[Settings], dbs: Databases) -> HostError:
    opened = ", ".join(one.path or "a database in memory" for one in found)
    what = f"the release writes to {opened}, and only {dbs.main.path} is kept and backed up"
    repo = next((one for one in found if one.repo), None)
    line = f'config :{repo.app}, {repo.repo}, database: System.fetch_env!("DATABASE_PATH")' if repo else ""
    fix = f"in config/runtime.exs:\n    {line}" if line else "open the file that DATABASE_PATH names"
    return HostError(what, _where(found[0]), f"{fix}\n  or name that file as database.path in deploy.yml")


# ---------------------------------------------------------------------------------------------- warning


def _warnings(one: Settings, dbs: Databases) -> list[str]:
    found = []
    if not _sound(one.sqlite_version):
        found.append(
            f"{one.who()} has SQLite {one.sqlite_version}: before 3.51.3 two connections that checkpoint and write at "
            "the same moment can corrupt the database (the WAL-reset bug); exqlite has a sound one since 0.36.0"
        )
    if dbs.backup is None and one.wal_autocheckpoint <= 0:
        found.append(
            f"{one.who()} never checkpoints, and without a backup nobody else does: its -wal file grows without end; "
            "configure backup, or leave wal_autocheckpoint as it is"
        )
    return found


def _sound(version: str) -> bool:
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    return numbers >= SOUND_SQLITE


def _aside(one: Settings) -> str:
    return f"{one.who()} writes to {one.path}, which is not backed up: name it in backup.extra if it should be"


def _left_open(one: Settings, dbs: Databases) -> str:
    return (
        f"unsafe_checkpoints is allowed, though of {one.who()} {', '.join(faults(one, dbs.backup is not None))}. "
        "Homeport keeps planned restarts of Litestream safe and forces a snapshot after every unplanned end. What "
        "stays open: until that snapshot the backup may lack rows in its middle; the drill, daily now, finds it"
    )
