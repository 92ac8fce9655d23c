"""The laptop's cache of recent artifacts, which are the bases for deltas."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import platformdirs

from homeport.core.errors import HomeportError
from hostctl.common.files import file_digest
from hostctl.common.release import artifact

MAX_ARTIFACTS = 5
PARTIAL_SECONDS = 3600.0  # the age from which on a partial file is that of a killed run


class Artifact(NamedTuple):
    """A release as a tar, and the tar's digest."""

    digest: str
    tar: Path


def directory() -> Path:
    """The user's cache directory for Homeport. Everything in it can be rebuilt."""
    return Path(platformdirs.user_cache_path("homeport"))


class Cache:
    """The artifacts of one app, each `<digest>.tar`, the newest few kept."""

    def __init__(self, app: str, root: Path | None = None) -> None:
        self.directory = (root or directory()) / "artifacts" / app

    def add(self, release_dir: Path) -> Artifact:
        """Normalise a release directory into the cache.

        Raises HomeportError for what cannot be part of an artifact, OSError for a full disk.
        """
        return self._add(lambda tar: artifact.normalise(release_dir, tar))

    def add_source(self, root: Path, names: Iterable[str]) -> Artifact:
        """As `add`, for the named files of a source tree."""
        return self._add(lambda tar: artifact.pack(root, names, tar))

    def nearest(self, digests: Iterable[str]) -> Path | None:
        """The first artifact of `digests` (newest first) that is in the cache and intact; None without one."""
        return next((tar for digest in digests if self._is_intact(tar := self._path(digest), digest)), None)

    def _path(self, digest: str) -> Path:
        return self.directory / f"{digest}.tar"

    def _is_intact(self, tar: Path, digest: str) -> bool:
        if not tar.exists():
            return False
        if file_digest(tar) == digest:
            return True
        tar.unlink()  # truncated by a crash: the host would refuse a delta against it
        return False

    def _add(self, write: Callable[[Path], str]) -> Artifact:
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self.directory / f".new-{os.getpid()}.tar"
        try:
            digest = write(part)
        except artifact.ArtifactError as error:
            raise HomeportError(error.what, error.where, error.fix) from None
        made = Artifact(digest, part.replace(self._path(digest)))
        self._prune()
        return made

    def _prune(self) -> None:
        tars = sorted(self.directory.glob("[!.]*.tar"), key=_age)
        parts = [part for part in self.directory.glob(".*") if _age(part) > PARTIAL_SECONDS]
        for path in tars[MAX_ARTIFACTS:] + parts:
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since the file was written; infinite if another push has removed it meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
