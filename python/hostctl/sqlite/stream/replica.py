"""The replica on S3 as a transition that replaces data uses it; a test substitutes another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from hostctl.backup import epochs as backup_epochs
from hostctl.backup.settings import Database, Databases
from hostctl.common.documents import TimeRange
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite.stream import litestream, replication


class Replica:
    """Every method raises HostError when S3, Litestream or systemd fails."""

    def epoch(self, app: App) -> Json | None:
        """The epoch to which this host streams, for the undo of `branch`; None without one."""
        epoch = backup_epochs.local(app)
        return epoch._asdict() if epoch else None

    def pause(self, app: App, host: Host) -> None:
        """Stop the stream, and prevent every start until `resume`. Litestream sends pending writes before it ends; that
        S3 has them is not checked: the kept files have every write, and S3 may be unreachable.
        """
        replication.pause(app, host, verify=False)

    def resume(self, app: App, host: Host) -> None:
        """Stream the databases into this host's epoch. A new epoch begins with a snapshot by itself."""
        replication.resume(app, host, snapshot=False)

    def branch(self, app: App, dbs: Databases, why: str) -> bool:
        """Begin a new epoch, since the data does not continue the streamed data; returns whether S3 knows it."""
        return backup_epochs.open_epoch(app, backup_epochs.local(app), why).published

    def back_to(self, app: App, dbs: Databases, epoch: Json | None) -> None:
        """Undo `branch`."""
        if epoch is not None:
            backup_epochs.return_to(app, backup_epochs.Epoch(**epoch))

    def reach(self, app: App, dbs: Databases) -> tuple[float, float]:
        """The oldest and the newest instant of the main database that can be restored, in seconds since the epoch."""
        epochs = backup_epochs.chain(backup_epochs.bucket(app))
        first = next(self._ranges(app, dbs, reversed(epochs)), None)
        last = next(self._ranges(app, dbs, epochs), None)
        if first is None or last is None:
            raise HostError("there is no backup to restore", "the backup on S3", "deploy backup status")
        return float(first["from"]), float(last["to"])

    def _ranges(self, app: App, dbs: Databases, epochs: Iterable[backup_epochs.Epoch]) -> Iterator[TimeRange]:
        for epoch in epochs:
            times = litestream.restorable_range(app, dbs, epoch.epoch, dbs.main.name)
            if times is not None:
                yield times

    def fetch(self, app: App, dbs: Databases, database: Database, target: Path, at: float | None) -> bool:
        """Restore a database as of an instant (None: the newest) into a new file; returns whether S3 has it."""
        epochs = backup_epochs.chain(backup_epochs.bucket(app))
        return litestream.fetch(app, dbs, epochs, database.name, target, at) is not None

    def caught_up(self, app: App, host: Host, name: str, patience: float) -> Json:
        """Wait until every committed write is on S3, at most so many seconds; returns its position."""
        number = litestream.wait_until_stored(app, name, patience, host)
        epoch = backup_epochs.local(app)
        return {"epoch": epoch.epoch if epoch else None, "txid": number}


def of(host: Host) -> Replica:
    """The replica of a host. The host of a test has its own."""
    return getattr(host, "replica", REPLICA)


REPLICA = Replica()
