"""Reads the commit and the files of the source from git, and names the release."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

from hostctl.common.timestamps import compact


class Description(TypedDict):
    """`sha` in full; `ref`, the branch, "" if detached; `dirty`, whether the app has uncommitted changes; `subject`."""

    sha: str
    ref: str
    dirty: bool
    subject: str


def describe(root: Path) -> Description | None:
    """The commit of the source at `root`; None without git, a repository or a commit."""
    log = _git(root, "log", "-1", "--format=%H%x00%s")
    if log is None:
        return None
    sha, _, subject = log.strip().partition("\0")
    ref = _git(root, "symbolic-ref", "-q", "--short", "HEAD") or ""
    dirty = bool(_git(root, "--no-optional-locks", "status", "--porcelain", "--", "."))
    return {"sha": sha, "ref": ref.strip(), "dirty": dirty, "subject": subject}


def release_id(now: datetime, described: Mapping[str, Any] | None, digest: str) -> str:
    """`YYYYMMDDTHHMMSSZ-xxxxxxx` (UTC): sorts by age; ends with the commit, without git the content."""
    source = described["sha"] if described else digest
    return f"{compact(now.timestamp())}-{source[:7]}"


def files(root: Path) -> list[str] | None:
    """Tracked files, and untracked ones that are not ignored, relative to `root`; None without git."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return None if listed is None else sorted(set(listed.split("\0")) - {""})


def tracked_files(root: Path) -> frozenset[str]:
    """The tracked files, relative to `root`; empty without git."""
    return frozenset((_git(root, "ls-files", "-z") or "").split("\0"))


def _git(root: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, encoding="utf-8", errors="surrogateescape"
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
