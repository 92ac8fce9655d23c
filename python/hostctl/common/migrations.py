"""Ecto's migrations of a release, by their files: what they do can be told without running them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from hostctl.common.documents import Migration, Record
from hostctl.common.errors import FAILED, HostError
from hostctl.common.migration_safety import additive

FILE = re.compile(r"(?P<version>\d{1,18})_(?P<name>.+)\.exs")
LARGEST = 1 << 20  # bytes of a file that is read as a migration


def of(files: Iterable[str]) -> set[str]:
    """The migrations among a release's files. lib/shop-1.2/… is lib/shop/…: a version has none of its own."""
    return {_without_version(name) for name in files if _is_migration(name)}


def _is_migration(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "lib" and "priv" in parts and parts[-2] == "migrations" and name.endswith((".exs", ".ex"))


def _without_version(name: str) -> str:
    parts = name.split("/")
    return "/".join([parts[0], parts[1].rpartition("-")[0] or parts[1], *parts[2:]])


# ---------------------------------------------------------------------------------------------- what they do


def listed(tree: Path) -> list[Migration]:
    """The migrations of an unpacked release, by version, as its record keeps them.

    Each is {"version", "name", "additive", "why"}: the reasons for which it is not additive.
    """
    found = (_entry(file) for file in tree.glob("lib/*/priv/*/migrations/*.exs"))
    return sorted((entry for entry in found if entry), key=lambda entry: int(entry["version"]))


def _entry(file: Path) -> Migration | None:
    named = FILE.fullmatch(file.name)
    if named is None or not file.is_file():
        return None
    with file.open(errors="replace") as source:
        why = additive(source.read(LARGEST))
    return {"version": int(named["version"]), "name": named["name"], "additive": not why, "why": why}


# ---------------------------------------------------------------------------------------------- going back


def rollback_risk(target: Record, others: Iterable[Record], applied: Collection[int] | None = None) -> list[Migration]:
    """The migrations that the database has and the target's code does not know, by version.

    `target` and `others` are records of releases. `applied` are the versions that the database itself names; without
    them, those of all the others count. A version that no record knows is not additive: nobody can tell what it did.
    """
    known = {entry["version"]: entry for record in others for entry in record.get("migrations") or ()}
    own = {entry["version"] for entry in target.get("migrations") or ()}
    there = set(known if applied is None else applied)
    return [known.get(version) or _unknown(version) for version in sorted(there - own)]


def _unknown(version: int) -> Migration:
    why = ["not recognised: no release kept here has it"]
    return {"version": version, "name": "of an unknown release", "additive": False, "why": why}


def warning(risk: Sequence[Migration]) -> str:
    """What a person should know when older code goes on with these migrations in the database."""
    names = ", ".join(f"{entry['version']}_{entry['name']}" for entry in risk)
    adds = all(entry["additive"] for entry in risk)
    how = "they only add, so the code should work" if adds else "they do not only add, so the code may not work"
    return f"the database stays as it is, newer than the code by {names}: {how}"


def refusal(risk: Sequence[Migration], release: str) -> HostError | None:
    """Why a release must not simply be gone back to: migrations that may break it. None when all only add."""
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
