"""The epoch of data of another system: of the cluster that pg_upgrade created, or of the one before it.

WAL does not connect two systems, and an archive takes the WAL of one only. So such data is archived into a new epoch,
which becomes current once the app is healthy on it. Until then the earlier epoch is current, with everything that was
written before, and the undo returns to it.
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
    """Whether the data is of another system (cluster) than this host's epoch. Raises HostError."""
    own_epoch = epochs.local(app)
    if own_epoch is None:
        return False
    identifier = timelines.load(app).system or timelines.read_stored(epochs.bucket(app), own_epoch.epoch).system
    return identifier not in ("", _system_identifier(data))


def _system_identifier(data: Path) -> str:
    return cluster.control_data(Server(scratch_server.programs(data), data, Path()))["Database system identifier"]


def begin(work: Work, why: str) -> None:
    """Save a new epoch, into which the server is archived from its next start on. The server must not run.

    Without a backup it does nothing. `confirm` publishes the epoch. Raises HostError.
    """
    own_epoch = epochs.local(work.app)
    if own_epoch is not None:
        work.journal.set(epoch=own_epoch._asdict())
        new_epoch = epochs.new_local(work.app, settings.backup(work.app), own_epoch, why)
        pgbackrest.configure(work.app, new_epoch.epoch)


def switch(work: Work, at: float | None = None) -> None:
    """Archive and stream the running server into the epoch that `begin` or `revert` saved.

    `at`: the instant whose data the server continues. Raises HostError.
    """
    own_epoch = epochs.local(work.app)
    if own_epoch is not None:
        replication.switch_epoch(work.app, work.host, own_epoch, at)


def confirm(work: Work) -> None:
    """The app is healthy on the new data: publish the new epoch, and take a full backup of it."""
    app = work.app
    if work.journal.content.get("epoch") is not None:
        if epochs.superseded(app) is None:
            _publish(app)
        replication.start_backup(app, work.host)
    state.resume(app)


def revert(work: Work) -> Epoch | None:
    """The undo of `begin`: make the earlier epoch this host's epoch again; returns it, or None without a change."""
    saved, own_epoch = work.journal.content.get("epoch"), epochs.local(work.app)
    if saved is None or own_epoch is None or own_epoch.epoch == saved["epoch"]:
        return None
    # CURRENT may name either epoch; the monitor publishes the earlier one if S3 does not answer now
    before = Epoch(**saved)._replace(published=False, replaces=own_epoch.epoch)
    epochs.save(work.app, settings.backup(work.app), before)
    pgbackrest.configure(work.app, before.epoch)
    if not work.booting:
        _publish(work.app)
    return before


def _publish(app: App) -> None:
    with contextlib.suppress(s3.Unreachable, s3.Refused):  # the monitor tries again
        epochs.publish(app, epochs.bucket(app))
