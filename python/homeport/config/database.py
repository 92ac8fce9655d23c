"""The app's database and its backup, as deploy.yml describes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from homeport.config import values
from homeport.config.fields import (
    Command,
    CredentialName,
    FileName,
    Flag,
    Found,
    Interval,
    Limit,
    PathText,
    Section,
    Span,
    Sql,
)
from homeport.config.values import refuse


class Database(Section):
    """Where the app's data is: a file that Homeport makes, streams to S3 and restores, or nothing of Homeport's."""

    engine: Annotated[Literal["none", "sqlite"], BeforeValidator(values.engine)] = "none"
    path: FileName = ""
    settings: Command | None = None
    unsafe_checkpoints: Literal["refuse", "allow"] = "refuse"


class Backup(Section):
    """The bucket that the database streams to, how often, and how the copy is proven."""

    enabled: Flag = True
    bucket: Annotated[str, BeforeValidator(values.bucket)] | None = None
    prefix: Annotated[str, BeforeValidator(values.prefix)] = ""
    region: Annotated[str, BeforeValidator(values.region)] = "us-east-1"
    endpoint: Annotated[str, BeforeValidator(values.endpoint)] | None = None
    path_style: Flag = False
    ca: PathText | None = None
    access_key_id: CredentialName = "BACKUP_ACCESS_KEY_ID"
    secret_access_key: CredentialName = "BACKUP_SECRET_ACCESS_KEY"  # noqa: S105 - the name of one
    interval: Interval = 0.25
    snapshot_interval: Span = 6 * 3600.0
    retention: Span = 7 * values.DAY_SECONDS
    drill: Literal["daily", "weekly", "monthly"] = "weekly"
    verify: tuple[Sql, ...] = ()
    extra: tuple[FileName, ...] = ()
    max_lag: Limit = 60.0
    require: tuple[Literal["versioning", "object_lock"], ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Backup:
        refuse(_backup_mistakes(self))
        return self


def told_by_others(app: str | None, destination: str | None, data: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """The defaults that other keys decide, by section; None where nothing can be told.

    Other stores than AWS know a bucket by its path; a copy that may have holes is proven every day.
    """
    backup, database = (data.get(name) for name in ("backup", "database"))
    elsewhere = isinstance(backup, dict) and backup.get("endpoint") is not None
    unsafe = isinstance(database, dict) and database.get("unsafe_checkpoints") == "allow"
    return {
        "database": {"path": f"{app}.db" if app else None},
        "backup": {
            "prefix": _prefix(app, destination) if app else None,
            "path_style": True if elsewhere else None,
            "drill": "daily" if unsafe else None,
        },
    }


def _prefix(app: str, destination: str | None) -> str:
    """Two hosts must not share a place, so a destination adds its name; a sandbox has a store of its own."""
    named = destination and destination.partition(":")[0] != "sandbox"
    return f"{app}-{destination}" if named else app


def _backup_mistakes(backup: Backup) -> Found:
    found = Found()
    if backup.secret_access_key == backup.access_key_id:
        found.append((("secret_access_key",), f"{backup.access_key_id} is the access_key_id as well"))
    if backup.retention < backup.snapshot_interval:
        found.append((("retention",), "must be as long as snapshot_interval, or there is nothing to restore from"))
    if backup.bucket and "." in backup.bucket and not backup.path_style:
        found.append((("bucket",), "has a dot, which no certificate covers: choose another, or set path_style: true"))
    for key in ("extra", "require"):
        names = getattr(backup, key)
        found += [((key, at), "is there twice: keep one") for at, name in enumerate(names) if name in names[:at]]
    return found + [(("verify", at), what) for at, text in enumerate(backup.verify) if (what := _no_sql(text))]


def _no_sql(text: str) -> str:
    """What is wrong with a statement, as far as can be told without its tables."""
    import sqlite3  # not every Python has it, and few configurations need it

    with closing(sqlite3.connect(":memory:")) as empty:
        try:
            empty.execute(f"EXPLAIN {text}")
        except sqlite3.ProgrammingError:
            return "must be one statement: make a list of several"
        except sqlite3.Error as error:
            told = re.search("syntax error|incomplete input|unrecognized token", str(error))
            return f"is not SQL: {error}" if told else ""
    return ""


def wrong_together(database: Database, backup: Backup, variables: Collection[str]) -> Found:
    """What is wrong between the database, its backup, and the names of the app's environment."""
    if database.engine == "none":
        what = "there is no database to back up: set database.engine: sqlite, or leave it out"
        return [(("backup", "bucket"), what)] if backup.bucket else []
    found = _credential_mistakes(backup, variables)
    if backup.enabled and not backup.bucket:
        what = "sqlite needs a backup: set backup.bucket, or backup.enabled: false to go without"
        found.append((("database", "engine"), what))
    if database.path in backup.extra:
        found.append((("backup", "extra", backup.extra.index(database.path)), "is database.path: leave it out"))
    if database.unsafe_checkpoints == "allow" and backup.drill != "daily":
        found.append((("backup", "drill"), "must be daily where database.unsafe_checkpoints is allow"))
    return found


def _credential_mistakes(backup: Backup, variables: Collection[str]) -> Found:
    what = "{} is in env as well, and the app must not have it: use another name"
    names = {key: getattr(backup, key) for key in ("access_key_id", "secret_access_key")}
    return [(("backup", key), what.format(name)) for key, name in names.items() if name in variables]
