"""The Ecto migrations of a release, read from their files: nothing is run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from hostctl.common.documents import Migration, Record
from hostctl.common.errors import FAILED, HostError
from hostctl.common.migration_safety import breaking_changes

FILE = re.compile(r"(?P<version>\d{1,18})_(?P<name>.+)\.exs")
LARGEST = 1 << 20  # bytes of a file that is read as a migration


def paths(files: Iterable[str]) -> set[str]:
    """The paths of the migrations among a release's files, without the versions of applications in them."""
    return {_without_version(name) for name in files if _is_migration(name)}


def _is_migration(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "lib" and "priv" in parts and parts[-2] == "migrations" and name.endswith((".exs", ".ex"))


def _without_version(name: str) -> str:
    parts = name.split("/")
    return "/".join([parts[0], parts[1].rpartition("-")[0] or parts[1], *parts[2:]])


# ---------------------------------------------------------------------------------------------- content


def read_tree(tree: Path) -> list[Migration]:
    """The migrations of an unpacked release, ordered by version, as its record holds them."""
    found = (_entry(file) for file in tree.glob("lib/*/priv/*/migrations/*.exs"))
    return sorted((entry for entry in found if entry), key=lambda entry: int(entry["version"]))


def _entry(file: Path) -> Migration | None:
    named = FILE.fullmatch(file.name)
    if named is None or not file.is_file():
        return None
    with file.open(errors="replace") as source:
        why = breaking_changes(source.read(LARGEST))
    return {"version": int(named["version"]), "name": named["name"], "additive": not why, "why": why}


# ---------------------------------------------------------------------------------------------- rollback


def rollback_risk(target: Record, others: Iterable[Record], applied: Collection[int] | None = None) -> list[Migration]:
    """The migrations that the database has and the target's code does not know, ordered by version.

    `target` and `others` are records of releases. `applied` are the versions in the database's own table; without it,
    the migrations of all others count as applied. A version that is in no record counts as not additive.
    """
    known = {entry["version"]: entry for record in others for entry in record.get("migrations") or ()}
    own = {entry["version"] for entry in target.get("migrations") or ()}
    there = set(known if applied is None else applied)
    return [known.get(version) or _unknown(version) for version in sorted(there - own)]


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
    what = (
        f"{release} may not work on the database as it is now; since then it was migrated, not only by adding:{lines}"
    )
    fix = "deploy rollback --with-data goes back to the data of then as well; deploy rollback --force goes back without"
    return HostError(what, "the migrations of the releases since", fix, FAILED)


def _reasons(entry: Migration) -> Iterator[str]:
    for why in entry["why"]:
        yield f"{entry['version']}_{entry['name']}: {why}"
