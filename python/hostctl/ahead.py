"""How far the database is ahead of the code of an older release."""

from __future__ import annotations

from hostctl import databases, migrations, records, sqlite
from hostctl.files import Json
from hostctl.layout import App


def of(app: App, target: str) -> list[Json]:
    """The migrations that the database has and the release does not know. Raises HostError."""
    others = [record for record in records.every(app) if record["release"] != target]
    versions = applied(app)
    if versions is None:
        others = [record for record in others if records.since(record) is not None]
    return migrations.rollback_risk(_with_migrations(app, records.load(app, target)), others, versions)


def applied(app: App) -> set[int] | None:
    """The versions that the databases name as migrated; None when none of them keeps Ecto's table.

    Raises HostError when one cannot be read.
    """
    dbs = databases.load(app)
    found = [sqlite.versions(one.path) for one in dbs.databases if one.path.exists()] if dbs else []
    tables = [versions for versions in found if versions is not None]
    return {version for versions in tables for version in versions} if tables else None


def _with_migrations(app: App, record: Json) -> Json:
    """The record; of a release that was pushed before records had migrations, what its tree tells."""
    if "migrations" in record:
        return record
    return {**record, "migrations": migrations.listed(app.tree(record["release"]))}
