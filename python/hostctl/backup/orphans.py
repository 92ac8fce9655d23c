"""Epochs of the bucket that nothing goes back to: of a restore that was undone, of a host that came too late.

They end with the retention, as all that is old does; and only where it is certain that nobody writes there any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostctl.backup import epochs, s3
from hostctl.backup.epochs import Epoch
from hostctl.common.names import matches
from hostctl.core.paths import App


def find_orphans(app: App, store: s3.Bucket, before: float) -> list[Epoch]:
    """The orphans in which nothing was stored since that time, oldest first. Raises HostError.

    An epoch is one only if its EPOCH says that it is this app's. Without CURRENT nobody knows what is an orphan.
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
    """What lies directly under the prefix and is named as an epoch, by name: one short request for each."""
    after = ""
    while one := store.first(f"{store.prefix}/", after):
        name = one.key.removeprefix(f"{store.prefix}/").partition("/")[0]
        if matches("epoch", name):
            yield name
        # the character after the slash: behind everything of this name
        after = f"{store.prefix}/{name}0" if "/" in one.key.removeprefix(f"{store.prefix}/") else one.key


def _is_quiet(store: s3.Bucket, epoch: Epoch, before: float) -> bool:
    return epoch.opened < before and all(one.modified < before for one in store.list(f"{store.prefix}/{epoch.epoch}/"))
