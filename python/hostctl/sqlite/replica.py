"""The copies on S3 as a transition that exchanges data uses them, in one place so that tests can put another there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from hostctl.backup import epochs as backup_epochs
from hostctl.backup.settings import Database, Databases
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite import litestream, replication


class Replica:
    """Every method raises HostError when S3, Litestream or systemd refuses."""

    def epoch(self, app: App) -> Json | None:
        """The epoch that this host streams to, as the undo of `branch` wants it."""
        mine = backup_epochs.local(app)
        return mine._asdict() if mine else None

    def pause(self, app: App, host: Host) -> None:
        """Nothing streams until `resume`, whoever starts what. Litestream sends what it has before it ends; that S3 got
        it is not asked: the files that go aside have it all, and S3 may be away.
        """
        replication.pause(app, host, verify=False)

    def resume(self, app: App, host: Host) -> None:
        """Stream what is there into this host's epoch. A new epoch begins with a snapshot by itself."""
        replication.resume(app, host, snapshot=False)

    def branch(self, app: App, dbs: Databases, why: str) -> bool:
        """Begin a new epoch: the data is not the continuation of what was streamed. Whether S3 knows of it already."""
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
            raise HostError("there is no backup that could be restored", "the backup on S3", "deploy backup status")
        return float(first["from"]), float(last["to"])

    def _ranges(self, app: App, dbs: Databases, epochs: Iterable[backup_epochs.Epoch]) -> Iterator[Json]:
        for epoch in epochs:
            found = litestream.restorable_range(app, dbs, epoch.epoch, dbs.main.name)
            if found is not None:
                yield found

    def fetch(self, app: App, dbs: Databases, database: Database, target: Path, at: float | None) -> bool:
        """Restore a database as of an instant (None: the newest) into a new file; whether S3 has one of that name."""
        epochs = backup_epochs.chain(backup_epochs.bucket(app))
        return litestream.fetch(app, dbs, epochs, database.name, target, at) is not None

    def caught_up(self, app: App, host: Host, name: str, patience: float) -> Json:
        """Wait until everything that is committed now is on S3, at most so many seconds; where that is."""
        number = litestream.wait_until_stored(app, name, patience, host)
        mine = backup_epochs.local(app)
        return {"epoch": mine.epoch if mine else None, "txid": number}


def of(host: Host) -> Replica:
    """The replica that belongs to a host. A host of a test brings its own."""
    return getattr(host, "replica", REPLICA)


REPLICA = Replica()
