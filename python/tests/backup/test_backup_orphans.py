"""Epochs that nothing goes back to end with the retention; nothing else is ever touched."""

from __future__ import annotations

import time

import pytest
from world import Host

from hostctl.backup import epochs, orphans, s3, settings
from hostctl.backup.epochs import Epoch
from hostctl.common.names import epoch_id

LATER = 3600.0  # seconds from now on which everything here is older than


@pytest.fixture
def place(host: Host) -> s3.Bucket:
    """The bucket, as the host sees it."""
    return epochs.bucket(host.app)


def found(host: Host, place: s3.Bucket, before: float | None = None) -> list[str]:
    return [epoch.epoch for epoch in orphans.find_orphans(host.app, place, before or time.time() + LATER)]


def opened(host: Host, parent: Epoch | None, why: str = "a test") -> Epoch:
    return epochs.open_epoch(host.app, parent, why)


def stored(place: s3.Bucket, epoch: str, *names: str) -> None:
    for name in names:
        place.put(f"{place.prefix}/{epoch}/{name}", b"x")


def test_an_epoch_that_was_undone_is_an_orphan_once_it_is_older_than_the_retention(
    host: Host, place: s3.Bucket
) -> None:
    first = opened(host, None)
    undone = opened(host, first, "a restore that is undone")
    stored(place, undone.epoch, *(f"shop.db/0000/{n:016x}-{n:016x}.ltx" for n in range(3)))
    epochs.return_to(host.app, first)
    kept = opened(host, epochs.local(host.app))
    assert [one.epoch for one in epochs.chain(place)] == [kept.epoch, first.epoch]
    assert found(host, place) == [undone.epoch]
    assert found(host, place, time.time() - LATER) == []  # too young
    epochs.delete(place, undone)
    assert found(host, place) == []
    assert not place.any(f"{place.prefix}/{undone.epoch}/")
    assert [one.epoch for one in epochs.chain(place)] == [kept.epoch, first.epoch]


def test_what_is_not_certainly_an_orphan_of_this_app_is_left_alone(host: Host, place: s3.Bucket) -> None:
    first = opened(host, None)
    mine = opened(host, first)
    epochs.new_local(host.app, settings.backup(host.app), mine, "not published yet")
    unheard = epochs.local(host.app)
    assert unheard is not None
    stored(place, unheard.epoch, "EPOCH")
    stored(place, "20260101T000000Z-abcdef", "shop.db/0000/1.ltx")  # says nothing of itself
    another = Epoch("20260102T000000Z-abcdef", "blog", "web", 1.0, None)
    place.put(f"{place.prefix}/{another.epoch}/EPOCH", epochs._to_json(another))
    mistaken = Epoch("20260103T000000Z-abcdef", "shop", "web", 1.0, None)
    place.put(f"{place.prefix}/20260104T000000Z-abcdef/EPOCH", epochs._to_json(mistaken))
    stored(place, "notes", "EPOCH")
    place.put(f"{place.prefix}/.probe", b"")
    assert found(host, place) == []


def test_an_orphan_into_which_something_is_still_stored_stays(host: Host, place: s3.Bucket) -> None:
    first = opened(host, None)
    zombie = Epoch("20260102T000000Z-abcdef", "shop", "old", 1.0, None)
    place.put(f"{place.prefix}/{zombie.epoch}/EPOCH", epochs._to_json(zombie))
    assert first.epoch != zombie.epoch
    assert found(host, place) == [zombie.epoch]
    assert found(host, place, time.time() - LATER) == []


def test_without_current_nobody_knows_what_is_an_orphan(host: Host, place: s3.Bucket) -> None:
    lost = Epoch(epoch_id(), "shop", "web", 1.0, None)
    place.put(f"{place.prefix}/{lost.epoch}/EPOCH", epochs._to_json(lost))
    assert found(host, place) == []
