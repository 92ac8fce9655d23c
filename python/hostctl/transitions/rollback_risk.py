"""Migrations that the database has and the code of an older release does not know."""

from __future__ import annotations

from hostctl import engines
from hostctl.common import migrations
from hostctl.common.documents import Migration, Record
from hostctl.core.paths import App
from hostctl.release import records


def of(app: App, target: str) -> list[Migration]:
    """The migrations that the database has and the release lacks. Raises HostError."""
    others = [record for record in records.every(app) if record["release"] != target]
    versions = applied(app)
    if versions is None:
        others = [record for record in others if records.live_since(record) is not None]
    return migrations.rollback_risk(_with_migrations(app, records.load(app, target)), others, versions)


def applied(app: App) -> set[int] | None:
    """The versions of the applied migrations; None without a database or without its table of migrations.

    Raises HostError when the database cannot be read.
    """
    engine = engines.of(app)
    return engine.pushes.applied_migrations(app) if engine else None


def _with_migrations(app: App, record: Record) -> Record:
    """The record with its migrations. Older records have none: they are read from the release's tree."""
    if "migrations" in record:
        return record
    return {**record, "migrations": migrations.read_tree(app.tree(record["release"]))}
