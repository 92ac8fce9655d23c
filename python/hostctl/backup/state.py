"""What is written down about the stream between one command and the next: small files in the app's backup directory."""

from __future__ import annotations

import time
from pathlib import Path

from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory, read_json, unlink, write_json
from hostctl.core.paths import App


def _put(app: App, name: str, told: Json) -> None:
    make_directory(app.backup, 0o700)
    write_json(app.backup / name, told)


# a snapshot that has to be forced, because nobody knows whether the copy is whole without it


def require_full(app: App, why: str) -> None:
    """A snapshot is owed; the first reason is kept."""
    if full_required(app) is None:
        _put(app, "owed.json", {"why": why, "since": time.time()})


def full_required(app: App) -> Json | None:
    """Why a snapshot is owed, and since when; None when none is."""
    return read_json(app.backup / "owed.json")


def full_taken(app: App) -> None:
    unlink(app.backup / "owed.json")


# the stream is to stay stopped, whoever starts it


def pause(app: App, why: str) -> None:
    _put(app, "paused.json", {"why": why, "at": time.time()})


def paused(app: App) -> Json | None:
    return read_json(app.backup / "paused.json")


def resume(app: App) -> None:
    unlink(app.backup / "paused.json")


# Litestream was started, with these settings, and has not been stopped cleanly


def started(app: App, fingerprint: str) -> None:
    _put(app, "running", {"at": time.time(), "fingerprint": fingerprint})


def running(app: App) -> Json | None:
    return read_json(app.backup / "running")


def ended(app: App) -> None:
    unlink(app.backup / "running")


# the last start failed; with `again` systemd may try it at once, without only the watch does, every minute


def refuse_start(app: App, error: HostError, again: bool) -> None:
    _put(app, "refused.json", {**error.as_dict(), "at": time.time(), "again": again})


def refusal(app: App) -> Json | None:
    return read_json(app.backup / "refused.json")


def clear_refusal(app: App) -> None:
    unlink(app.backup / "refused.json")


# a person's word that an empty database may be made, good for one start


def allow_empty(app: App) -> None:
    _put(app, "allow-empty", {"at": time.time()})


def empty_allowed(app: App) -> bool:
    return _allowed(app).exists()


def disallow_empty(app: App) -> None:
    unlink(_allowed(app))


def _allowed(app: App) -> Path:
    return app.backup / "allow-empty"
