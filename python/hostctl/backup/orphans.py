"""Epochs of the bucket that are no ancestors of the current one: of an undone restore, or of a superseded host.

They are deleted after the retention, and only when nothing writes to them any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostctl.backup import epochs, s3
from hostctl.backup.epochs import Epoch
from hostctl.common.names import matches
from hostctl.core.paths import App


def find_orphans(app: App, store: s3.Bucket, before: float) -> list[Epoch]:
    """The orphans in which nothing was stored since `before`, oldest first. Raises HostError.

    Only epochs whose EPOCH names this app count. Without CURRENT the list is empty: no ancestor is known.
    """
    needed = {epoch.epoch for epoch in epochs.chain(store)}
    if not needed:
        return []
    mine = epochs.local(app)
    needed |= {mine.epoch} if mine else set()
    found = [(name, epochs.read_epoch(store, name)) for name in _names(store) if name not in needed]
    own = [epoch for name, epoch in found if epoch and epoch.app == app.name and epoch.epoch == name]
    return [epoch for epoch in own if _is_quiet(store, epoch, before)]


def _names(store: s3.Bucket) -> Iterator[str]:
    """The names of epochs directly under the prefix. Each takes one short request."""
    after = ""
    while one := store.first(f"{store.prefix}/", after):
        name = one.key.removeprefix(f"{store.prefix}/").partition("/")[0]
        if matches("epoch", name):
            yield name
        # "0" follows "/": skips every key of this epoch
        after = f"{store.prefix}/{name}0" if "/" in one.key.removeprefix(f"{store.prefix}/") else one.key


def _is_quiet(store: s3.Bucket, epoch: Epoch, before: float) -> bool:
    return epoch.opened < before and all(one.modified < before for one in store.list(f"{store.prefix}/{epoch.epoch}/"))
