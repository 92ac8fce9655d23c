"""One directory with the digested static files of all kept releases, so that a page opened before a switch can load its
files after it.

phx.digest lists the files in cache_manifest.json. Their names contain a hash, so the files of all releases fit into one
directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from hostctl.common.files import make_directory, read_json
from hostctl.core.paths import App

PRECOMPRESSED = ("", ".gz", ".br", ".zst")


def digested(tree: Path) -> Iterator[tuple[str, Path]]:
    """Each digested file of a release: its path below /srv/<app>/assets, and its path in the tree."""
    for manifest in sorted(tree.glob("lib/*/priv/static/cache_manifest.json")):
        latest = (read_json(manifest) or {}).get("latest")
        for name in sorted(set(latest.values())) if isinstance(latest, dict) else []:
            if _is_inside(name):
                yield from _variants(manifest.parent, name)


def _variants(static: Path, name: str) -> Iterator[tuple[str, Path]]:
    for ending in PRECOMPRESSED:
        path = static / f"{name}{ending}"
        if path.is_file() and not path.is_symlink():
            yield f"{name}{ending}", path


def _is_inside(name: object) -> bool:
    """Whether a name from the manifest stays below the directory it is relative to."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def link(app: App, release: str) -> int:
    """Link the files of a release into the directory; returns how many there are."""
    count = 0
    for name, source in digested(app.tree(release)):
        target = app.assets / name
        make_directory(target.parent, 0o755)
        with suppress(FileExistsError):
            os.link(source, target, follow_symlinks=False)
        count += 1
    return count


def prune(app: App, kept: Iterable[str]) -> int:
    """Remove the files that no kept release has from the directory; returns how many were removed."""
    names = {name for release in kept for name, _ in digested(app.tree(release))}
    removed = 0
    for directory, _, files in os.walk(app.assets, topdown=False):
        for file in files:
            path = Path(directory, file)
            if str(path.relative_to(app.assets)) not in names:
                path.unlink()
                removed += 1
        if Path(directory) != app.assets:
            with suppress(OSError):  # not empty
                Path(directory).rmdir()
    return removed
