"""Removal of old releases, with their static files and restore points, and of old artifacts and journals.

The caller holds the lock. A record is removed before its tree: the next run removes a tree without
a record.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hostctl.backup import restore_points
from hostctl.common import files
from hostctl.common.names import matches
from hostctl.core.paths import App
from hostctl.cron import runs
from hostctl.host.systemd import Systemd
from hostctl.journal import journal
from hostctl.release import assets, records, selection

UNCLAIMED = 86_400.0  # seconds for which an artifact without a release is kept


def candidates(app: App, systemd: Systemd | None) -> list[selection.Candidate]:
    """All releases as `selection` decides over them; without systemd none counts as running."""
    every = records.every(app)
    units = systemd.show(*(app.unit(record["release"]) for record in every)) if systemd else []
    running = [unit.state not in ("inactive", "failed", "unknown") for unit in units] or [False] * len(every)
    with_jobs = set(runs.running_jobs(app, systemd).values()) if systemd else set()
    return [
        selection.candidate(record, app.tree(record["release"]).is_dir(), active or record["release"] in with_jobs)
        for record, active in zip(every, running, strict=True)
    ]


def prune(app: App, systemd: Systemd, retain: int) -> list[str]:
    """Remove what is no longer needed; `retain` releases stay. Returns the releases that were removed."""
    releases = candidates(app, systemd)
    gone = selection.prunable(releases, app.live(), retain)
    for release in gone:
        _remove(app, release)
    _sweep_trees(app)
    kept = [each for each in releases if each.release not in gone]
    assets.prune(app, [each.release for each in kept])
    _artifacts(app, releases, selection.kept_artifacts(kept, app.live()))
    restore_points.prune(app, {each.release for each in kept})
    _journals(app)
    return gone


def _remove(app: App, release: str) -> None:
    """Remove a release. Its record is renamed first: from then on the release does not exist."""
    removed = app.records / f".gone-{release}"
    files.remove_tree(removed)
    app.record(release).rename(removed)
    files.sync_directory(app.records)
    files.remove_tree(app.tree(release))
    files.remove_tree(removed)


def _sweep_trees(app: App) -> None:
    """Remove what a killed prune or unpack left."""
    for path in app.records.glob(".gone-*"):
        files.remove_tree(path)
    for path in list(app.trees.iterdir()) if app.trees.is_dir() else []:
        if path.name.startswith(".") or (matches("release", path.name) and not app.record(path.name).is_dir()):
            files.remove_tree(path)


def _artifacts(app: App, releases: Sequence[selection.Candidate], kept: set[str]) -> None:
    """Remove the artifacts that are not in `kept`.

    One without a release may be of a push that is about to begin: it is kept for a day.
    """
    known = {each.digest for each in releases}
    for path in app.artifacts.glob("*"):
        name = path.name.partition(".")[0]
        if name not in kept and matches("digest", name) and (name in known or _age(path) > UNCLAIMED):
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _journals(app: App) -> None:
    """Remove old journals, except those of transitions that are not closed."""
    for entry in journal.every(app)[: -selection.KEPT_TRANSITIONS]:
        if entry.content["closed"]:
            with suppress(FileNotFoundError):
                files.remove_tree(entry.directory)
