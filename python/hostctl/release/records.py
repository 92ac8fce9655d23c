"""The record of each release: its commit and settings, who pushed it, and the states it went through."""

from __future__ import annotations

import time
from typing import cast

from hostctl.common.documents import Change, NamedChanges, Record, ReleaseSummary
from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import read_json, unlink, write_atomic, write_json
from hostctl.common.names import matches
from hostctl.core.paths import App
from hostctl.release import changes as release_changes
from hostctl.release import environment as at_rest

STAGED, LIVE, SUPERSEDED, FAILED_STATE = "staged", "live", "superseded", "failed"
# files with the port of the live instance, which the edge reads, and of the one that replaces it in the same release
PORT, NEXT_PORT = "port", "port.next"


def releases(app: App) -> list[str]:
    """Every release with a record directory, oldest first."""
    try:
        names = [path.name for path in app.records.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if matches("release", name))


def load(app: App, release: str) -> Record:
    """The record of a release. Raises HostError when there is none."""
    record = read_json(app.record(release) / "record.json")
    if record is None:
        raise HostError(f"there is no release {release} of {app.name}", str(app.records), "deploy releases", FAILED)
    return cast(Record, record)


def every(app: App) -> list[Record]:
    """All records, oldest first."""
    records = (read_json(app.record(release) / "record.json") for release in releases(app))
    return [cast(Record, record) for record in records if record is not None]


def save(app: App, record: Record) -> None:
    """Write the record of a release."""
    write_json(app.record(record["release"]) / "record.json", record)


def mark(app: App, release: str, state: str, why: str = "") -> None:
    """Set the state of a release, and add it with the time to its history. The current state changes nothing."""
    record = load(app, release)
    if record["state"] == state:
        return
    entry: Change = {"state": state, "at": time.time()}
    if why:
        entry["why"] = why
    save(app, {**record, "state": state, "history": [*record["history"], entry]})


def unmark(app: App, release: str, state: str) -> None:
    """Undo `mark`: set the earlier `state`, and remove the later ones from the history."""
    record = load(app, release)
    history = list(record["history"])
    while len(history) > 1 and history[-1]["state"] != state:
        history.pop()
    save(app, {**record, "state": state, "history": history})


def summary(app: App, record: Record) -> ReleaseSummary:
    """A release as a list shows it. The symlink, not the record, decides which one is live."""
    live = record["release"] == app.live()
    state = LIVE if live else SUPERSEDED if record["state"] == LIVE else record["state"]
    return {
        "release": record["release"],
        "digest": record.get("digest"),
        "git": record.get("git"),
        "created": record.get("created"),
        "who": record.get("who"),
        "size": record.get("size"),
        "env_changes": record.get("env_changes"),
        "state": state,
        "live": live,
        "present": app.tree(record["release"]).is_dir(),
    }


def env_changes(app: App, before: str | None, after: str) -> NamedChanges | None:
    """The names that differ between the environments of two releases; None without a difference, or when unknown."""
    records = [read_json(app.record(release) / "record.json") or {} for release in (before, after) if release]
    digests = [record["env_digests"] for record in records if "env_digests" in record]
    changes = release_changes.named_changes(*digests) if len(digests) == 2 else None
    return changes if changes and any(changes.values()) else None


def live_since(record: Record) -> float | None:
    """When the release last went live, in seconds since the epoch."""
    times = [entry["at"] for entry in record["history"] if entry["state"] == LIVE]
    return max(times, default=None)


def port(app: App, release: str, name: str = PORT) -> int | None:
    """The port of the release's instance; None before its first start."""
    try:
        return int((app.record(release) / name).read_text())
    except (OSError, ValueError):
        return None


def next_port(app: App, release: str) -> int:
    """The port of the instance that was started last, even before the edge uses it; 0 without one."""
    return port(app, release, NEXT_PORT) or port(app, release) or 0


def write_port(app: App, release: str, number: int, name: str = PORT) -> None:
    """Write down the port of an instance, for root alone."""
    write_atomic(app.record(release) / name, str(number).encode())


def publish_port(app: App, release: str, name: str = PORT) -> None:
    """Let every user read the port: the edge, which is another user, reads it at every request."""
    if (path := app.record(release) / name).exists():
        path.chmod(0o644)


def forget_environment(app: App, release: str) -> None:
    """Delete the environment and the port of a release that will not start again."""
    at_rest.forget(app, release)
    unlink(app.record(release) / "port")


def environment(app: App, release: str) -> dict[str, str]:
    """The environment of the release's instance; empty when it was deleted. Raises HostError when decryption fails."""
    return at_rest.load(app, release)
