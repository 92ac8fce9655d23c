"""The state of replication between two commands: small JSON files in the app's backup directory."""

from __future__ import annotations

import time
from pathlib import Path

from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory, read_json, unlink, write_json
from hostctl.core.paths import App


def _put(app: App, name: str, told: Json) -> None:
    make_directory(app.backup, 0o700)
    write_json(app.backup / name, told)


# without a forced snapshot the backup may have a hole


def require_full(app: App, why: str) -> None:
    """Require a full snapshot; an earlier reason is kept."""
    if full_required(app) is None:
        _put(app, "owed.json", {"why": why, "since": time.time()})


def full_required(app: App) -> Json | None:
    """Why a full snapshot is required (`why`), and since when (`since`); None when none is."""
    return read_json(app.backup / "owed.json")


def full_taken(app: App) -> None:
    """Note that the required snapshot was taken."""
    unlink(app.backup / "owed.json")


# replication stays stopped, whatever starts its unit


def pause(app: App, why: str) -> None:
    """Keep replication stopped until `resume`."""
    _put(app, "paused.json", {"why": why, "at": time.time()})


def paused(app: App) -> Json | None:
    """Why replication is paused, and since when; None when it is not."""
    return read_json(app.backup / "paused.json")


def resume(app: App) -> None:
    """Let replication start again."""
    unlink(app.backup / "paused.json")


# Litestream was started with these settings and was not stopped cleanly


def started(app: App, fingerprint: str) -> None:
    """Note that Litestream starts; `fingerprint` identifies its settings."""
    _put(app, "running", {"at": time.time(), "fingerprint": fingerprint})


def running(app: App) -> Json | None:
    """When Litestream was started, and the fingerprint of its settings; None after a clean stop."""
    return read_json(app.backup / "running")


def ended(app: App) -> None:
    """Note that Litestream has ended."""
    unlink(app.backup / "running")


# the last start failed; without `again` only the monitor retries it, every minute


def refuse_start(app: App, error: HostError, again: bool) -> None:
    """Note why the last start failed; with `again` systemd may retry it at once."""
    _put(app, "refused.json", {**error.as_dict(), "at": time.time(), "again": again})


def refusal(app: App) -> Json | None:
    """The error of the last start, with `at` and `again`; None when it did not fail."""
    return read_json(app.backup / "refused.json")


def clear_refusal(app: App) -> None:
    """Forget the error of the last start."""
    unlink(app.backup / "refused.json")


# `--allow-empty` of one start


def allow_empty(app: App) -> None:
    """Let the next start make an empty database."""
    _put(app, "allow-empty", {"at": time.time()})


def empty_allowed(app: App) -> bool:
    """Whether the next start may make an empty database."""
    return _allowed(app).exists()


def disallow_empty(app: App) -> None:
    """Withdraw `allow_empty`."""
    unlink(_allowed(app))


def _allowed(app: App) -> Path:
    return app.backup / "allow-empty"
