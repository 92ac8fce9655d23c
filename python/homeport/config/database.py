"""The app's database and its backup, as deploy.yml describes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from homeport.config import parameters, values
from homeport.config.fields import (
    Command,
    CredentialName,
    FileName,
    Flag,
    Interval,
    Limit,
    LogBytes,
    Mistakes,
    PathText,
    Section,
    Span,
    Sql,
    Timeout,
    UrlName,
    Wait,
    between,
)
from homeport.config.parameters import Parameters
from homeport.config.values import refuse

# keys for some engines only: with another engine they are refused, and `deploy config` does not show them
ENGINES: dict[tuple[str, str], tuple[str, ...]] = {
    ("database", "path"): ("sqlite",),
    ("database", "settings"): ("sqlite",),
    ("database", "unsafe_checkpoints"): ("sqlite",),
    ("database", "pool"): ("postgres", "external"),
    ("database", "lock_timeout"): ("postgres",),
    ("database", "parameters"): ("postgres",),
    ("database", "url"): ("external",),
    ("backup", "extra"): ("sqlite",),
    ("backup", "archive_timeout"): ("postgres",),
    ("backup", "full_interval"): ("postgres",),
    ("backup", "encryption_key"): ("postgres",),
    ("backup", "max_wal"): ("postgres",),
}
# connections beside the app's: the monitor, a console, a dump, a drill, and those reserved for the superuser
OWN_CONNECTIONS = 15
# engines whose data streams to backup.bucket
BACKED_UP = ("sqlite", "postgres")


class Database(Section):
    """The app's database: SQLite or PostgreSQL on the host, a server elsewhere, or none."""

    engine: Literal["none", "sqlite", "postgres", "external"] = "none"
    """sqlite: one file, streamed to S3 and restored automatically. postgres: a cluster of the distribution's server on
    the same host, archived to S3 and restored automatically; the app connects over a Unix socket, without a
    password. external: a server elsewhere, whose provider makes the backups. none: no database, or one that Homeport
    does not manage.
    """

    path: FileName = ""
    """The name of the database file in `/var/lib/<app>/`, the only directory that the app may write to. It outlives
    every release. The app also finds it by DATABASE_PATH.
    """

    settings: Command | None = None
    """A program of the release that prints the settings of the app's connections, for an app without Ecto: for each
    database one line of JSON with path, wal_autocheckpoint, busy_timeout, journal_mode and sqlite_version. An app
    with Ecto is asked directly.
    """

    unsafe_checkpoints: Literal["refuse", "allow"] = "refuse"
    """An app that checkpoints by itself makes holes in any streamed copy. refuse stops the push of such an app. allow
    is for an app that cannot be changed: holes are then closed as far as possible, and the backup is verified daily.
    """

    pool: Annotated[int, BeforeValidator(values.whole_number(1, 500)), between(1, 500)] = 10
    """The connections of one instance, from 1 to 500. The app receives the number as POOL_SIZE; PostgreSQL accepts
    twice as many and 15 more, because two instances run during a push.
    """

    lock_timeout: Wait = 5.0
    """How long a statement of a migration may wait for a lock. All later statements on the same table wait behind it.
    """

    parameters: Parameters = Field(default_factory=dict)
    """Any setting of the server, such as {work_mem: 16MB, jit: off}: names, units and ranges are checked, by those of
    PostgreSQL 15 and 17, before the host is touched. Memory settings follow the host's size unless they are set here.
    """

    url: UrlName = "DATABASE_URL"
    """The name of the secret, also listed in env.secret, that holds the server's URL:
    postgres://user:password@host/name.
    """


class Backup(Section):
    """The bucket that the database is backed up to, how often, and how the backup is verified."""

    enabled: Flag = True
    """false disables the backup; otherwise sqlite and postgres require one."""

    bucket: Annotated[str, BeforeValidator(values.bucket)] | None = None
    """The name of the bucket. On AWS it must be unique among all customers."""

    prefix: Annotated[str, BeforeValidator(values.prefix)] = ""
    """The directory in the bucket: by default the app's name, with the name of the destination, such as shop-staging.
    Two hosts must not share one.
    """

    region: Annotated[str, BeforeValidator(values.region)] = "us-east-1"
    """The region of the bucket."""

    endpoint: Annotated[str, BeforeValidator(values.endpoint)] | None = None
    """The URL of a store other than AWS, such as https://s3.example.net. PostgreSQL's backup requires HTTPS."""

    path_style: Flag = False
    """Whether the bucket is part of the URL's path instead of its host name. The default is true if endpoint is set."""

    ca: PathText | None = None
    """A file with the CA that signed the endpoint's certificate, if it is not a public one."""

    access_key_id: CredentialName = "BACKUP_ACCESS_KEY_ID"
    """The name of the secret that holds the bucket's access key id. Its value comes from the same places as those of
    env.secret; the app does not receive it.
    """

    secret_access_key: CredentialName = "BACKUP_SECRET_ACCESS_KEY"  # noqa: S105 - the name of one
    """The name of the secret that holds the bucket's secret access key. The app does not receive it."""

    interval: Interval = 0.25
    """How often new writes are sent, from 50ms to 1m: about what is lost with the host. Each send is a request that the
    store counts; `deploy config --explain` prints how many a month.
    """

    snapshot_interval: Span = 6 * 3600.0
    """How often a snapshot of the whole database is sent. With postgres: how often an incremental backup is made."""

    retention: Span = 7 * values.DAY_SECONDS
    """How far back the database can be restored. At least snapshot_interval."""

    drill: Literal["daily", "weekly", "monthly"] = "weekly"
    """How often the backup is verified by restoring it: daily, weekly or monthly. With unsafe_checkpoints: allow it
    must be daily, and is by default.
    """

    verify: tuple[Sql, ...] = ()
    """SQL statements that a restored copy must pass: the first column of the first row must be true."""

    extra: tuple[FileName, ...] = ()
    """More SQLite files in `/var/lib/<app>/` to back up."""

    max_lag: Limit = 60.0
    """`deploy status --check` fails when the newest write in the bucket is older than this."""

    require: tuple[Literal["versioning", "object_lock"], ...] = ()
    """Features that the bucket must have: versioning, object_lock."""

    archive_timeout: Timeout = 15.0
    """The longest time that a segment of the write-ahead log stays open before it is archived, in whole seconds. Until
    then it is streamed every `interval`.
    """

    full_interval: Span = 7 * values.DAY_SECONDS
    """How often a full backup is made. At least snapshot_interval."""

    encryption_key: CredentialName | None = None
    """The name of a secret with which everything is encrypted before it leaves the host. Without its value nothing can
    be restored: keep it outside the host too. `openssl rand -base64 48` makes one.
    """

    max_wal: LogBytes = 10 * 2**30
    """How much write-ahead log waits on the disk while S3 is unavailable. Beyond it log is dropped: `deploy status`
    reports the gap, and a full backup closes it as soon as S3 is available again.
    """

    @model_validator(mode="after")
    def _check(self) -> Backup:
        refuse(_backup_mistakes(self))
        return self


def derived_defaults(app: str | None, destination: str | None, data: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """The defaults that depend on other keys, by section; None if they cannot be determined.

    Stores other than AWS expect the bucket in the URL's path. A backup that may have gaps is verified daily.
    """
    backup, database = (each if isinstance(each := data.get(name), dict) else {} for name in ("backup", "database"))
    other_store = backup.get("endpoint") is not None
    unsafe = database.get("unsafe_checkpoints") == "allow"
    engine = database.get("engine")
    return {
        "database": {"path": f"{app}.db" if app and engine not in ("postgres", "external") else None},
        "backup": {
            "prefix": _prefix(app, destination) if app and engine != "external" else None,
            "path_style": True if other_store else None,
            "drill": "daily" if unsafe else None,
        },
    }


def _prefix(app: str, destination: str | None) -> str:
    """The directory in the bucket: the app's name, and the destination's unless the app's name ends with it.

    Two hosts must not share a directory; a sandbox has a store of its own.
    """
    named = destination and destination.partition(":")[0] != "sandbox" and not app.endswith(f"-{destination}")
    return f"{app}-{destination}" if named else app


def _backup_mistakes(backup: Backup) -> Mistakes:
    mistakes = Mistakes()
    if backup.secret_access_key == backup.access_key_id:
        mistakes.append((("secret_access_key",), f"{backup.access_key_id} is the access_key_id as well"))
    if backup.encryption_key in (backup.access_key_id, backup.secret_access_key):
        mistakes.append((("encryption_key",), f"{backup.encryption_key} is one of the bucket's own keys as well"))
    if backup.retention < backup.snapshot_interval:
        mistakes.append((("retention",), "must be as long as snapshot_interval, or there is nothing to restore from"))
    if backup.full_interval < backup.snapshot_interval:
        mistakes.append((("full_interval",), "must be as long as snapshot_interval: backups between are incremental"))
    if not backup.archive_timeout.is_integer():
        mistakes.append((("archive_timeout",), "must be whole seconds"))
    if backup.bucket and "." in backup.bucket and not backup.path_style:
        mistakes.append(
            (("bucket",), "has a dot, which no certificate covers: choose another, or set path_style: true")
        )
    for key in ("extra", "require"):
        names = getattr(backup, key)
        mistakes += [((key, at), "is there twice: keep one") for at, name in enumerate(names) if name in names[:at]]
    return mistakes


def _sql_mistake(text: str) -> str:
    """The mistake in an SQLite statement, as far as it can be mistakes without the tables."""
    import sqlite3  # not every Python has it, and few configurations need it

    with closing(sqlite3.connect(":memory:")) as empty:
        try:
            empty.execute(f"EXPLAIN {text}")
        except sqlite3.ProgrammingError:
            return "must be one statement: make a list of several"
        except sqlite3.Error as error:
            syntax = re.search("syntax error|incomplete input|unrecognized token", str(error))
            return f"is not SQL: {error}" if syntax else ""
    return ""


def contradictions(database: Database, backup: Backup, clear: Collection[str], secret: Collection[str]) -> Mistakes:
    """The contradictions between the database, its backup and the app's environment, each with its path."""
    mistakes = [*_engine_mistakes(database, backup), *_statement_mistakes(database, backup)]
    if database.engine == "none":
        what = "there is no database to back up: set database.engine, or leave it out"
        return mistakes + ([(("backup", "bucket"), what)] if backup.bucket else [])
    if database.engine == "external":
        return mistakes + _external_mistakes(database, backup, secret)
    mistakes += _credential_mistakes(backup, {*clear, *secret})
    if backup.enabled and not backup.bucket:
        what = f"{database.engine} needs a backup: set backup.bucket, or backup.enabled: false to go without"
        mistakes.append((("database", "engine"), what))
    return mistakes + (_sqlite_mistakes if database.engine == "sqlite" else _postgres_mistakes)(database, backup)


def _engine_mistakes(database: Database, backup: Backup) -> Mistakes:
    """The mistakes for keys of another engine than the app's."""
    if database.engine == "none":
        return Mistakes()
    set_keys = {("database", name) for name in database.model_fields_set}
    set_keys |= {("backup", name) for name in backup.model_fields_set}
    return [
        (path, f"is for {' and '.join(engines)}, and database.engine is {database.engine}: leave it out")
        for path, engines in ENGINES.items()
        if path in set_keys and database.engine not in engines and (path[0] == "database" or backup.enabled)
    ]


def _statement_mistakes(database: Database, backup: Backup) -> Mistakes:
    """The mistakes in the statements of SQLite. Only a PostgreSQL server could check statements of PostgreSQL."""
    if database.engine not in ("none", "sqlite"):
        return Mistakes()
    return [(("backup", "verify", at), what) for at, text in enumerate(backup.verify) if (what := _sql_mistake(text))]


def _sqlite_mistakes(database: Database, backup: Backup) -> Mistakes:
    mistakes = Mistakes()
    if database.path in backup.extra:
        mistakes.append((("backup", "extra", backup.extra.index(database.path)), "is database.path: leave it out"))
    if database.unsafe_checkpoints == "allow" and backup.drill != "daily":
        mistakes.append((("backup", "drill"), "must be daily where database.unsafe_checkpoints is allow"))
    return mistakes


def _postgres_mistakes(database: Database, backup: Backup) -> Mistakes:
    mistakes = Mistakes()
    if backup.enabled and (backup.endpoint or "").startswith("http://"):
        mistakes.append((("backup", "endpoint"), "must begin with https:// for postgres: pgBackRest requires it"))
    least, configured = 2 * database.pool + OWN_CONNECTIONS, database.parameters.get("max_connections")
    if configured is not None and (parameters.number("max_connections", configured) or 0) < least:
        what = f"must be at least {least}: twice database.pool, for the overlap of a push, and {OWN_CONNECTIONS} more"
        mistakes.append((("database", "parameters", "max_connections"), what))
    return mistakes


def _external_mistakes(database: Database, backup: Backup, secret: Collection[str]) -> Mistakes:
    mistakes = Mistakes()
    if backup.enabled and backup.model_fields_set - {"enabled"}:
        what = "the backups of an external database are its provider's: leave this out, or set enabled: false"
        mistakes.append((("backup",), what))
    if database.url not in secret:
        what = f"{database.url} is not in env.secret: name it there, so that the app gets it"
        mistakes.append((("database", "url"), what))
    return mistakes


def _credential_mistakes(backup: Backup, variables: Collection[str]) -> Mistakes:
    what = "{} is in env as well, and the app must not have it: use another name"
    names = {key: getattr(backup, key) for key in ("access_key_id", "secret_access_key", "encryption_key")}
    return [(("backup", key), what.format(name)) for key, name in names.items() if name in variables]
