"""Packs the app's source into an artifact, for a build on the host or in a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from homeport.release import git
from homeport.release.cache import Artifact, Cache

MADE = frozenset({"_build", "deps", "node_modules", ".git", ".elixir_ls"})


def pack(root: Path, cache: Cache) -> Artifact:
    """The source at `root`, normalised like a release. Raises HomeportError for a symlink that leads out of it."""
    return cache.add_source(root, names(root))


def names(root: Path) -> list[str]:
    """Every source file, relative to `root`: the files that git tracks or does not ignore.

    Without git: all files but those that a build makes. Files such as .env, which usually hold secrets, are left out
    unless git tracks them.
    """
    listed = git.files(root)
    candidates = listed if listed is not None else list(_walk(root))
    tracked = git.tracked_files(root)
    return [name for name in candidates if os.path.lexists(root / name) and (name in tracked or not _secret(name))]


def _secret(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base == ".env" or base.startswith(".env.")


def _walk(root: Path) -> Iterator[str]:
    for directory, below, files in os.walk(root):
        below[:] = [name for name in below if name not in MADE]
        links = [name for name in below if (Path(directory) / name).is_symlink()]
        for name in files + links:
            yield (Path(directory) / name).relative_to(root).as_posix()
