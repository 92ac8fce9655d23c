"""The state of replication between two commands: small JSON files in the app's backup directory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, cast

from hostctl.common.documents import ErrorDocument, FullRequired
from hostctl.common.errors import HostError
from hostctl.common.files import make_directory, read_json, unlink, write_json
from hostctl.core import lock
from hostctl.core.paths import App

OTHER = 600.0  # seconds for which an action waits for another one, which may take a snapshot


class BusyError(HostError):
    """Another process works on the replication."""


@contextmanager
def exclusive(app: App, patience: float = OTHER) -> Iterator[None]:
    """Work on the replication alone in the block. Raises BusyError when another process does not end in time."""
    make_directory(app.backup, 0o700)
    busy = BusyError("another process works on the stream", str(app.backup), "try again")
    with lock.hold(app.backup / "lock", busy, patience):
        yield


class Pause(TypedDict):
    """Why replication is paused, and since when (`at`)."""

    why: str
    at: float


class Start(TypedDict):
    """When Litestream was started, and the fingerprint of its settings."""

    at: float
    fingerprint: str


class StartRefusal(ErrorDocument):
    """The error of the last start; with `again` systemd may retry it at once."""

    at: float
    again: bool


def _write(app: App, name: str, document: object) -> None:
    make_directory(app.backup, 0o700)
    write_json(app.backup / name, document)


# without a forced snapshot the backup may have a hole


def require_full(app: App, why: str) -> None:
    """Require a full snapshot; an earlier reason is kept."""
    if full_required(app) is None:
        _write(app, "owed.json", {"why": why, "since": time.time()})


def full_required(app: App) -> FullRequired | None:
    """Why a full snapshot is required (`why`), and since when (`since`); None when none is."""
    return cast("FullRequired | None", read_json(app.backup / "owed.json"))


def full_taken(app: App) -> None:
    """Note that the required snapshot was taken."""
    unlink(app.backup / "owed.json")


# replication stays stopped, whatever starts its unit


def pause(app: App, why: str) -> None:
    """Keep replication stopped until `resume`."""
    _write(app, "paused.json", {"why": why, "at": time.time()})


def paused(app: App) -> Pause | None:
    """Why replication is paused, and since when; None when it is not."""
    return cast("Pause | None", read_json(app.backup / "paused.json"))


def resume(app: App) -> None:
    """Let replication start again."""
    unlink(app.backup / "paused.json")


# Litestream was started with these settings and was not stopped cleanly


def started(app: App, fingerprint: str) -> None:
    """Note that Litestream starts; `fingerprint` identifies its settings."""
    _write(app, "running", {"at": time.time(), "fingerprint": fingerprint})


def running(app: App) -> Start | None:
    """When Litestream was started, and the fingerprint of its settings; None after a clean stop."""
    return cast("Start | None", read_json(app.backup / "running"))


def ended(app: App) -> None:
    """Note that Litestream has ended."""
    unlink(app.backup / "running")


# the last start failed; without `again` only the monitor retries it, every minute


def refuse_start(app: App, error: HostError, again: bool) -> None:
    """Note why the last start failed; with `again` systemd may retry it at once."""
    _write(app, "refused.json", {**error.as_dict(), "at": time.time(), "again": again})


def refusal(app: App) -> StartRefusal | None:
    """The error of the last start, with `at` and `again`; None when it did not fail."""
    return cast("StartRefusal | None", read_json(app.backup / "refused.json"))


def clear_refusal(app: App) -> None:
    """Forget the error of the last start."""
    unlink(app.backup / "refused.json")


# `--allow-empty` of one start


def allow_empty(app: App) -> None:
    """Let the next start make an empty database."""
    _write(app, "allow-empty", {"at": time.time()})


def empty_allowed(app: App) -> bool:
    """Whether the next start may make an empty database."""
    return _allowed(app).exists()


def disallow_empty(app: App) -> None:
    """Withdraw `allow_empty`."""
    unlink(_allowed(app))


def _allowed(app: App) -> Path:
    return app.backup / "allow-empty"
