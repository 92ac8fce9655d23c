"""The risk of a rollback: migrations in the database that the code of the older release does not know."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from hostctl import engines
from hostctl.common.documents import Migration, Record
from hostctl.common.errors import FAILED, HostError
from hostctl.common.release import migrations
from hostctl.core.paths import App
from hostctl.release import records


def unknown_migrations(app: App, target: str) -> list[Migration]:
    """The migrations that the database has and the code of the release `target` does not know. Raises HostError."""
    others = [record for record in records.every(app) if record["release"] != target]
    versions = applied(app)
    if versions is None:
        others = [record for record in others if records.live_since(record) is not None]
    return unknown_to(_with_migrations(app, records.load(app, target)), others, versions)


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


def unknown_to(target: Record, others: Iterable[Record], applied: Collection[int] | None = None) -> list[Migration]:
    """The migrations that the database has and the target's code does not know, ordered by version.

    `target` and `others` are records of releases. `applied` are the versions in the database's own table; without it,
    the migrations of all others count as applied. A version that is in no record counts as not additive.
    """
    known = {entry["version"]: entry for record in others for entry in record.get("migrations") or ()}
    own = {entry["version"] for entry in target.get("migrations") or ()}
    in_database = set(known if applied is None else applied)
    return [known.get(version) or _unknown(version) for version in sorted(in_database - own)]


def _unknown(version: int) -> Migration:
    why = ["not recognised: no release kept here has it"]
    return {"version": version, "name": "of an unknown release", "additive": False, "why": why}


def warning(risk: Sequence[Migration]) -> str:
    """A warning that older code will run on a database with these migrations."""
    names = ", ".join(f"{entry['version']}_{entry['name']}" for entry in risk)
    adds = all(entry["additive"] for entry in risk)
    how = "they only add, so the code should work" if adds else "they do not only add, so the code may not work"
    return f"the database stays as it is, newer than the code by {names}: {how}"


def refusal(risk: Sequence[Migration], release: str) -> HostError | None:
    """The refusal to roll back to a release that these migrations may break; None if all are additive."""
    breaking = [entry for entry in risk if not entry["additive"]]
    if not breaking:
        return None
    lines = "".join(f"\n    {line}" for entry in breaking for line in _reasons(entry))
    what = f"{release} may not work with the database, which was migrated since by non-additive migrations:{lines}"
    fix = "deploy rollback --with-data goes back to the data of then as well; deploy rollback --force goes back without"
    return HostError(what, "the migrations of the releases since", fix, FAILED)


def _reasons(entry: Migration) -> Iterator[str]:
    for why in entry["why"]:
        yield f"{entry['version']}_{entry['name']}: {why}"
