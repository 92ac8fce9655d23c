"""database.json: which SQLite files the app has, and where their copies go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hostctl import envfile
from hostctl.errors import USAGE, HostError
from hostctl.files import Json, read_json, write_atomic
from hostctl.layout import App

ACCESS = "LITESTREAM_ACCESS_KEY_ID"
SECRET = "LITESTREAM_SECRET_ACCESS_KEY"  # noqa: S105 - the name of a variable
DAILY = "daily"


def _is_key(value: object) -> bool:
    return value is None or (isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,200}", value) is not None)


# what is taken on standard input: null keeps what is there
KEYS = {"access_key_id": _is_key, "secret_access_key": _is_key}


class Database(NamedTuple):
    """One SQLite file. `name` tells it apart in the bucket; it is the path below the app's data."""

    name: str
    path: Path


class Backup(NamedTuple):
    """Where the databases stream to. Durations in seconds."""

    bucket: str
    prefix: str
    region: str
    endpoint: str | None = None
    path_style: bool = False
    ca: Path | None = None
    interval: float = 0.25
    snapshot_interval: float = 6 * 3600
    retention: float = 7 * 86_400
    drill: str = "weekly"
    verify: tuple[str, ...] = ()
    max_lag: float = 60.0
    require: tuple[str, ...] = ()


class Databases(NamedTuple):
    """The app's databases. `unsafe`: the app may checkpoint by itself, behind Litestream's back."""

    user: str
    litestream: Path
    unsafe: bool
    databases: tuple[Database, ...]
    backup: Backup | None

    @property
    def main(self) -> Database:
        """The database of DATABASE_PATH."""
        return self.databases[0]

    def named(self, name: str) -> Database:
        """The database of that name. Raises HostError (usage)."""
        for database in self.databases:
            if database.name == name:
                return database
        known = ", ".join(database.name for database in self.databases)
        raise HostError(f"there is no database {name[:80]!r}", "database in deploy.yml", f"one of {known}", USAGE)


class Credentials(NamedTuple):
    """The keys of the bucket. Never shown: the secret is left out of the text form."""

    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return "Credentials(...)"


def load(app: App) -> Databases | None:
    """What provisioning wrote down; None when the app has no SQLite database. Raises HostError (usage)."""
    if not app.database.exists():
        return None
    found = read_json(app.database)
    try:
        return _of(found or {})
    except (KeyError, TypeError, ValueError) as error:
        what = f"database.json cannot be read: {type(error).__name__}: {error}"
        raise HostError(what, str(app.database), "deploy provision", USAGE) from None


def require(app: App) -> Databases:
    """As `load`, for what makes no sense without a database. Raises HostError (usage)."""
    found = load(app)
    if found is None:
        fix = "set database.engine: sqlite, and run deploy provision"
        raise HostError(f"{app.name} has no SQLite database", "database in deploy.yml", fix, USAGE)
    return found


def require_backup(app: App) -> tuple[Databases, Backup]:
    """As `require`, with a backup. Raises HostError (usage)."""
    found = require(app)
    if found.backup is None:
        fix = "configure backup, and run deploy provision"
        raise HostError(f"{app.name} has no backup: it is not enabled", "backup in deploy.yml", fix, USAGE)
    return found, found.backup


def _of(told: Json) -> Databases:
    listed = tuple(Database(str(one["name"]), Path(one["path"])) for one in told["databases"])
    if not listed:
        raise ValueError("no database is named")
    backup = _backup(told["backup"]) if told.get("backup") else None
    unsafe = told.get("unsafe_checkpoints") == "allow"
    return Databases(str(told["user"]), Path(told["litestream"]), unsafe, listed, backup)


def _backup(told: Json) -> Backup:
    known = {key: value for key, value in told.items() if key in Backup._fields and value is not None}
    for name in ("verify", "require"):
        known[name] = tuple(known.get(name, ()))
    if "ca" in known:
        known["ca"] = Path(known["ca"])
    return Backup(**known)


def credentials(app: App) -> Credentials:
    """The keys of the bucket. Raises HostError when they were never sent here."""
    try:
        values = envfile.parse(app.backup_credentials.read_text())
        return Credentials(values[ACCESS], values[SECRET])
    except FileNotFoundError:
        what = "the host has no keys for the backup's bucket"
    except (OSError, ValueError, KeyError):
        what = "the keys for the backup's bucket cannot be read"  # never with the text: it may be a key
    raise HostError(what, str(app.backup_credentials), "deploy provision", USAGE)


def keep_credentials(app: App, told: Json) -> bool:
    """Write the keys down; a null keeps what is there. Returns whether anything changed.

    `told` is as KEYS wants it. Raises HostError (usage) when a null has nothing to keep.
    """
    given = (told["access_key_id"], told["secret_access_key"])
    kept = credentials(app) if None in given else Credentials("", "")
    access, secret = (new if new is not None else old for new, old in zip(given, kept, strict=True))
    text = envfile.render({ACCESS: access, SECRET: secret}).encode()
    if app.backup_credentials.exists() and app.backup_credentials.read_bytes() == text:
        return False
    write_atomic(app.backup_credentials, text)
    return True
