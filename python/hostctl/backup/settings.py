"""database.json: the engine of the app's database, the target of its backup, and the files of SQLite."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, read_json, write_atomic
from hostctl.core.paths import App
from hostctl.host.boundary import handles
from hostctl.release import envfile

ACCESS = "LITESTREAM_ACCESS_KEY_ID"
SECRET = "LITESTREAM_SECRET_ACCESS_KEY"  # noqa: S105 - the name of a variable
ENCRYPTION = "HOMEPORT_BACKUP_KEY"
DAILY = "daily"
SQLITE = "sqlite"
EXTERNAL = "external"


def _is_key(value: object) -> bool:
    return value is None or (isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,200}", value) is not None)


# the keys read from standard input: null keeps the stored value
KEYS = {"access_key_id": _is_key, "secret_access_key": _is_key, "encryption_key": _is_key}


class Database(NamedTuple):
    """One SQLite file. `name` is its path below the app's data directory, and its name in the bucket."""

    name: str
    path: Path

    @property
    def directory(self) -> Path:
        """The app's data directory, in which the app's user can change everything."""
        return self.path.parents[len(PurePosixPath(self.name).parts) - 1]

    def stat(self, suffix: str = "") -> os.stat_result | None:
        """The file, or the one beside it whose name ends so; None without it. No link is followed.

        Raises HostError where a directory on the way is a link.
        """
        try:
            with handles.owned(self.directory) as directory:
                return directory.stat(self.name + suffix)
        except FileNotFoundError:
            return None
        except OSError as error:
            what = f"a part of the path cannot be followed ({(error.strerror or str(error)).lower()})"
            raise HostError(what, str(self.path), "replace a link by the directory itself") from None

    @property
    def exists(self) -> bool:
        """Whether there is anything of that name."""
        return self.stat() is not None

    @property
    def size(self) -> int:
        """Bytes of the file; 0 without one."""
        found = self.stat()
        return found.st_size if found else 0

    @property
    def log_size(self) -> int:
        """Bytes of its write-ahead log; 0 without one."""
        found = self.stat("-wal")
        return found.st_size if found else 0


class Backup(NamedTuple):
    """Target and schedule of the backup. Durations in seconds, `max_wal` in bytes; the last four are PostgreSQL's."""

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
    archive_timeout: float = 15.0
    full_interval: float = 7 * 86_400
    max_wal: int = 10 << 30
    encrypted: bool = False


class Databases(NamedTuple):
    """The app's SQLite databases. `unsafe`: the app may checkpoint by itself, which Litestream can miss."""

    user: str
    litestream: Path
    unsafe: bool
    databases: tuple[Database, ...]
    backup: Backup | None

    @property
    def main(self) -> Database:
        """The database that DATABASE_PATH names."""
        return self.databases[0]

    def existing(self) -> tuple[Database, ...]:
        """The databases whose file exists."""
        return tuple(database for database in self.databases if database.exists)

    def named(self, name: str) -> Database:
        """The database of that name. Raises HostError (usage)."""
        for database in self.databases:
            if database.name == name:
                return database
        known = ", ".join(database.name for database in self.databases)
        raise HostError(f"there is no database {name[:80]!r}", "database in deploy.yml", f"one of {known}", USAGE)


class Credentials(NamedTuple):
    """The keys of the bucket, and the key that encrypts what is stored there. `repr` never shows them."""

    access_key_id: str
    secret_access_key: str
    encryption_key: str | None = None

    def __repr__(self) -> str:
        return "Credentials(...)"


def engine(app: App) -> str | None:
    """The engine of the app's database, as deploy.yml names it; None for an app without one."""
    if not app.database.exists():
        return None
    return str((read_json(app.database) or {}).get("engine", SQLITE))


def load(app: App) -> Databases | None:
    """The app's SQLite databases; None for another engine. Raises HostError (usage)."""
    if engine(app) != SQLITE:
        return None
    try:
        return _parse(read_json(app.database) or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable_error(app, error) from None


def unreadable_error(app: App, error: Exception) -> HostError:
    """The error for a database.json that is not as provisioning writes it."""
    what = f"database.json cannot be read: {type(error).__name__}: {error}"
    return HostError(what, str(app.database), "deploy provision", USAGE)


def require(app: App) -> Databases:
    """As `load`, but raises HostError (usage) when the app has no SQLite database."""
    found = load(app)
    if found is None:
        fix = "set database.engine: sqlite, and run deploy provision"
        raise HostError(f"{app.name} has no SQLite database", "database in deploy.yml", fix, USAGE)
    return found


def require_backup(app: App) -> tuple[Databases, Backup]:
    """As `require`, and raises HostError (usage) without a backup."""
    found = require(app)
    return found, backup(app)


def configured(app: App) -> Backup | None:
    """The app's backup, whatever its engine; None without one. Raises HostError (usage)."""
    told = (read_json(app.database) or {}).get("backup") if app.database.exists() else None
    try:
        return parse_backup(told) if told else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable_error(app, error) from None


def backup(app: App) -> Backup:
    """As `configured`, but raises HostError (usage) without a backup."""
    found = configured(app)
    if found is None:
        raise no_backup_error(app)
    return found


def no_backup_error(app: App) -> HostError:
    """The error for a command that needs a backup."""
    if engine(app) == EXTERNAL:
        what = f"the database of {app.name} and its backups are on its provider's server"
        return HostError(what, "database.engine: external", "see the provider's backups", USAGE)
    fix = "configure backup, and run deploy provision"
    return HostError(f"{app.name} has no backup: it is not enabled", "backup in deploy.yml", fix, USAGE)


def has_data(app: App) -> bool:
    """Whether the app's data is on this host, for every engine."""
    found = load(app)
    return found.main.exists if found else (app.cluster_data / "PG_VERSION").exists()


def _parse(told: Json) -> Databases:
    listed = tuple(Database(str(one["name"]), Path(one["path"])) for one in told["databases"])
    if not listed:
        raise ValueError("no database is named")
    backup = parse_backup(told["backup"]) if told.get("backup") else None
    unsafe = told.get("unsafe_checkpoints") == "allow"
    return Databases(str(told["user"]), Path(told["litestream"]), unsafe, listed, backup)


def parse_backup(told: Json) -> Backup:
    """The backup of database.json. Raises TypeError, ValueError or KeyError for any other document."""
    known = {key: value for key, value in told.items() if key in Backup._fields and value is not None}
    for name in ("verify", "require"):
        known[name] = tuple(known.get(name, ()))
    if "ca" in known:
        known["ca"] = Path(known["ca"])
    return Backup(**known)


def credentials(app: App) -> Credentials:
    """The keys of the bucket. Raises HostError (usage) when this host has none."""
    try:
        values = envfile.parse(app.backup_credentials.read_text())
        return Credentials(values[ACCESS], values[SECRET], values.get(ENCRYPTION))
    except FileNotFoundError:
        what = "the host has no keys of the backup's bucket"
    except (OSError, ValueError, KeyError):
        what = "the keys of the backup's bucket cannot be read"  # without the error's text, which may hold a key
    raise HostError(what, str(app.backup_credentials), "deploy provision", USAGE)


def save_credentials(app: App, told: Json) -> bool:
    """Store the keys; a null keeps the stored one. Returns whether anything changed.

    `told` has the names of KEYS. Raises HostError (usage) for a null without a stored key.
    """
    given = (told["access_key_id"], told["secret_access_key"])
    kept = Credentials("", "")
    with nullcontext() if None in given else suppress(HostError):
        kept = credentials(app)
    access, secret = (new if new is not None else old for new, old in zip(given, kept[:2], strict=True))
    key = told.get("encryption_key") or kept.encryption_key
    values = {ACCESS: access, SECRET: secret} | ({ENCRYPTION: key} if key else {})
    text = envfile.render(values).encode()
    if app.backup_credentials.exists() and app.backup_credentials.read_bytes() == text:
        return False
    write_atomic(app.backup_credentials, text)
    return True
