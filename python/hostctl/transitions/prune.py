"""Remove what is no longer needed: releases beyond those kept, their static files and restore points, old artifacts and
journals.

Only under the lock. A record goes before its tree, so a tree without a record is a leftover and goes next
time.
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

UNCLAIMED = 86_400.0  # seconds


def see(app: App, systemd: Systemd | None) -> list[selection.Seen]:
    """All releases as the decisions see them; without systemd none is taken to run."""
    every = records.every(app)
    units = systemd.show(*(app.unit(record["release"]) for record in every)) if systemd else []
    running = [unit.state not in ("inactive", "failed", "unknown") for unit in units] or [False] * len(every)
    beside = set(runs.at_work(app, systemd).values()) if systemd else set()
    return [
        selection.seen(record, app.tree(record["release"]).is_dir(), runs or record["release"] in beside)
        for record, runs in zip(every, running, strict=True)
    ]


def run(app: App, systemd: Systemd, retain: int) -> list[str]:
    """Prune everything; returns the releases that went."""
    found = see(app, systemd)
    gone = selection.prunable(found, app.live(), retain)
    for release in gone:
        _remove(app, release)
    _sweep_trees(app)
    kept = [one for one in found if one.release not in gone]
    assets.prune(app, [one.release for one in kept])
    _artifacts(app, found, selection.kept_artifacts(kept, app.live()))
    restore_points.prune(app, {one.release for one in kept})
    _journals(app)
    return gone


def _remove(app: App, release: str) -> None:
    """The record leaves in one rename: from then on there is no such release."""
    grave = app.records / f".gone-{release}"
    files.remove_tree(grave)
    app.record(release).rename(grave)
    files.sync_directory(app.records)
    files.remove_tree(app.tree(release))
    files.remove_tree(grave)


def _sweep_trees(app: App) -> None:
    """What a killed prune or unpack left."""
    for path in app.records.glob(".gone-*"):
        files.remove_tree(path)
    for path in list(app.trees.iterdir()) if app.trees.is_dir() else []:
        if path.name.startswith(".") or (matches("release", path.name) and not app.record(path.name).is_dir()):
            files.remove_tree(path)


def _artifacts(app: App, found: Sequence[selection.Seen], kept: set[str]) -> None:
    """Tars beyond the bases.

    One that no release knows may be meant for a push that is about to begin: it has a day.
    """
    known = {one.digest for one in found}
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
    """The newest journals stay, and every one that has something left to do."""
    for entry in journal.every(app)[: -selection.KEPT_TRANSITIONS]:
        if entry.content["closed"]:
            with suppress(FileNotFoundError):
                files.remove_tree(entry.directory)
