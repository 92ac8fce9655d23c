"""Data of another system in the live data's place: what pg_upgrade made, or what was there before it.

No log leads from one system to another, and no archive takes the log of two. So such data is archived into an epoch of
its own, which counts once the app has been found well on it. Until then the epoch of before counts, with everything
that was written until then, and an undo goes back to it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from hostctl.backup import epochs, s3, settings, state
from hostctl.backup.epochs import Epoch
from hostctl.core.paths import App
from hostctl.journal.engine import Work
from hostctl.postgres.archive import pgbackrest, replication, timelines
from hostctl.postgres.server import cluster, scratch_server
from hostctl.postgres.server.cluster import Server


def is_other_system(app: App, data: Path) -> bool:
    """Whether the data is of another system (cluster) than this host's epoch is archived from. Raises HostError."""
    mine = epochs.local(app)
    if mine is None:
        return False
    known = timelines.load(app).system or timelines.read_stored(epochs.bucket(app), mine.epoch).system
    return known not in ("", _system(data))


def _system(data: Path) -> str:
    return cluster.control_data(Server(scratch_server.programs(data), data, Path()))["Database system identifier"]


def begin(work: Work, why: str) -> None:
    """Save a new epoch into which the server is archived from its next start on. The server must not run now.

    Without a backup there is none. It is published by `confirm`. Raises HostError.
    """
    mine = epochs.local(work.app)
    if mine is not None:
        work.journal.set(epoch=mine._asdict())
        fresh = epochs.new_local(work.app, settings.backup(work.app), mine, why)
        pgbackrest.configure(work.app, fresh.epoch)


def switch(work: Work, at: float | None = None) -> None:
    """The server, which runs again, is archived and streamed into the epoch that `begin` or `back` wrote down.

    `at`: the instant whose data it goes on from. Raises HostError.
    """
    mine = epochs.local(work.app)
    if mine is not None:
        replication.switch_epoch(work.app, work.host, mine, at)


def confirm(work: Work) -> None:
    """The app is healthy on the new data: publish the new epoch, and take a full backup of it."""
    app = work.app
    if work.journal.content.get("epoch") is not None:
        if epochs.superseded(app) is None:
            _publish(app)
        replication.start_backup(app, work.host)
    state.resume(app)


def revert(work: Work) -> Epoch | None:
    """The undo of `begin`: this host's earlier epoch is its epoch again, for `switch`; None when it never changed."""
    told, now = work.journal.content.get("epoch"), epochs.local(work.app)
    if told is None or now is None or now.epoch == told["epoch"]:
        return None
    # CURRENT may name either: what was published is taken back, by the watch where it cannot be done now
    before = Epoch(**told)._replace(published=False, replaces=now.epoch)
    epochs.save(work.app, settings.backup(work.app), before)
    pgbackrest.configure(work.app, before.epoch)
    if not work.booting:
        _publish(work.app)
    return before


def _publish(app: App) -> None:
    with contextlib.suppress(s3.Unreachable, s3.Refused):  # the watch tries again
        epochs.publish(app, epochs.bucket(app))
