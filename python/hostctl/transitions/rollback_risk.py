"""How far the database is ahead of the code of an older release."""

from __future__ import annotations

from hostctl import engines
from hostctl.common import migrations
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.release import records


def of(app: App, target: str) -> list[Json]:
    """The migrations that the database has and the release does not know. Raises HostError."""
    others = [record for record in records.every(app) if record["release"] != target]
    versions = applied(app)
    if versions is None:
        others = [record for record in others if records.since(record) is not None]
    return migrations.rollback_risk(_with_migrations(app, records.load(app, target)), others, versions)


def applied(app: App) -> set[int] | None:
    """The versions that the database names as migrated; None when it keeps no table of them, or there is none.

    Raises HostError when it cannot be read.
    """
    engine = engines.of(app)
    return engine.pushes.versions(app) if engine else None


def _with_migrations(app: App, record: Json) -> Json:
    """The record; of a release that was pushed before records had migrations, what its tree tells."""
    if "migrations" in record:
        return record
    return {**record, "migrations": migrations.listed(app.tree(record["release"]))}
