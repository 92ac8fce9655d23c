"""The Ecto migrations of a release, read from their files: nothing is run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hostctl.common.documents import Migration
from hostctl.common.release.migration_safety import breaking_changes

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
