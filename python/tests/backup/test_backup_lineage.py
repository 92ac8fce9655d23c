"""Which copy counts: the decision at a start over its whole table, and the race for CURRENT on a real S3 server."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import Host

from hostctl.backup import epochs, s3
from hostctl.backup.epochs import BucketState, Decision, Epoch, decide
from hostctl.common.errors import HostError

OURS = Epoch("20260101T000000Z-aaaaaa", "shop", "one", 1.0, None)
BEFORE = Epoch("20251231T000000Z-bbbbbb", "shop", "one", 0.0, None)
OTHERS = Epoch("20260102T000000Z-cccccc", "shop", "two", 2.0, OURS.epoch)
PENDING = OURS._replace(published=False, parent=BEFORE.epoch, replaces=BEFORE.epoch)

MINE = {"none": None, "published": OURS, "pending": PENDING}
SEEN = {
    "unreachable": BucketState(False),
    "empty": BucketState(True, None, True),
    "no CURRENT": BucketState(True, None, False),
    "ours": BucketState(True, OURS, False),
    "the one before": BucketState(True, BEFORE, False),
    "another's": BucketState(True, OTHERS, False),
}

# this host's epoch, whether the file is here, what the bucket says: what is done
TABLE = {
    ("none", False, "unreachable"): Decision.UNREACHABLE,
    ("none", False, "empty"): Decision.EMPTY,
    ("none", False, "no CURRENT"): Decision.LOST,
    ("none", False, "ours"): Decision.RESTORE,
    ("none", False, "the one before"): Decision.RESTORE,
    ("none", False, "another's"): Decision.RESTORE,
    ("none", True, "unreachable"): Decision.UNREACHABLE,
    ("none", True, "empty"): Decision.FIRST,
    ("none", True, "no CURRENT"): Decision.FIRST,
    ("none", True, "ours"): Decision.HAS_FILE,
    ("none", True, "the one before"): Decision.HAS_FILE,
    ("none", True, "another's"): Decision.HAS_FILE,
    ("published", False, "unreachable"): Decision.UNREACHABLE,
    ("published", False, "empty"): Decision.LOST,
    ("published", False, "no CURRENT"): Decision.LOST,
    ("published", False, "ours"): Decision.RESTORE,
    ("published", False, "the one before"): Decision.SUPERSEDED,
    ("published", False, "another's"): Decision.SUPERSEDED,
    ("published", True, "unreachable"): Decision.STREAM,
    ("published", True, "empty"): Decision.REOPEN,
    ("published", True, "no CURRENT"): Decision.REOPEN,
    ("published", True, "ours"): Decision.STREAM,
    ("published", True, "the one before"): Decision.SUPERSEDED,
    ("published", True, "another's"): Decision.SUPERSEDED,
    ("pending", False, "unreachable"): Decision.UNREACHABLE,
    ("pending", False, "empty"): Decision.EMPTY,
    ("pending", False, "no CURRENT"): Decision.LOST,
    ("pending", False, "ours"): Decision.RESTORE,
    ("pending", False, "the one before"): Decision.RESTORE,
    ("pending", False, "another's"): Decision.RESTORE,
    ("pending", True, "unreachable"): Decision.STREAM,
    ("pending", True, "empty"): Decision.PUBLISH,
    ("pending", True, "no CURRENT"): Decision.PUBLISH,
    ("pending", True, "ours"): Decision.STREAM,
    ("pending", True, "the one before"): Decision.PUBLISH,
    ("pending", True, "another's"): Decision.SUPERSEDED,
}


@pytest.mark.parametrize(("mine", "file", "seen"), list(product(MINE, (False, True), SEEN)))
def test_what_a_start_does(mine: str, file: bool, seen: str) -> None:
    assert decide(MINE[mine], file, SEEN[seen]) is TABLE[mine, file, seen]


@pytest.mark.parametrize(("mine", "file", "seen"), list(product(MINE, (False, True), SEEN)))
def test_a_persons_word_makes_an_empty_database_only_where_no_copy_is_known(mine: str, file: bool, seen: str) -> None:
    usual, allowed = TABLE[mine, file, seen], decide(MINE[mine], file, SEEN[seen], allow_empty=True)
    changed = {Decision.UNREACHABLE: Decision.EMPTY_LATER, Decision.LOST: Decision.EMPTY}
    empties = not file and mine != "published"
    wanted = changed.get(usual, usual) if empties or (usual is Decision.UNREACHABLE and not file) else usual
    assert allowed is wanted


MAKES = (Decision.EMPTY, Decision.EMPTY_LATER, Decision.RESTORE)
STREAMS = (Decision.STREAM, Decision.PUBLISH, Decision.REOPEN, Decision.FIRST)
EPOCHS = st.sampled_from([OURS, BEFORE, OTHERS])
LOCAL = st.one_of(
    st.none(), EPOCHS, st.builds(lambda e, r: e._replace(published=False, replaces=r.epoch), EPOCHS, EPOCHS)
)


@given(
    LOCAL,
    st.booleans(),
    st.builds(BucketState, st.booleans(), st.one_of(st.none(), EPOCHS), st.booleans()),
    st.booleans(),
)
def test_no_file_is_ever_overwritten_and_nobody_streams_where_another_counts(
    mine: Epoch | None, file: bool, seen: BucketState, allow_empty: bool
) -> None:
    decision = decide(mine, file, seen, allow_empty)
    if file:
        assert decision not in MAKES
    else:
        assert decision not in STREAMS
    known = seen.current.epoch if seen.asked and seen.current else None
    if known is not None:
        assert decision not in (Decision.EMPTY, Decision.EMPTY_LATER, Decision.FIRST, Decision.REOPEN)
        if decision is Decision.STREAM:
            assert mine is not None
            assert mine.epoch == known


# ------------------------------------------------------------------------------- the chain


def test_the_data_of_a_time_is_looked_for_in_what_counted_then() -> None:
    chain = [
        OTHERS._replace(opened=300.0),
        OURS._replace(opened=200.0, parent=BEFORE.epoch),
        BEFORE._replace(opened=100.0),
    ]
    assert [(e.host, until) for e, until in epochs.candidates(chain, None)] == [
        ("two", None),
        ("one", 300),
        ("one", 200),
    ]
    assert [until for _, until in epochs.candidates(chain, 250.0)] == [250.0, 200.0]
    assert epochs.epoch_for(chain, 300.0) == chain[0]
    assert epochs.epoch_for(chain, 299.9) == chain[1]
    assert epochs.epoch_for(chain, 100.0) == chain[2]
    with pytest.raises(HostError, match="the backup begins at"):
        epochs.epoch_for(chain, 99.0)


def test_an_epoch_outlives_its_successors_opening_by_the_retention() -> None:
    chain = [OTHERS._replace(opened=300.0), OURS._replace(opened=200.0), BEFORE._replace(opened=100.0)]
    assert epochs.expired(chain, 200.0) == []
    assert epochs.expired(chain, 200.1) == [chain[2]]
    assert epochs.expired(chain, 400.0) == [chain[2], chain[1]]
    assert epochs.expired([], 400.0) == []


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"epoch": "../x", "opened": 1}', b'{"epoch": 1}', b"\xff"])
def test_what_is_no_epoch_is_not_taken_for_one(text: bytes) -> None:
    assert epochs.parse(text) is None


# ------------------------------------------------------------------------------- CURRENT, on the real store


def opened(host: Host, parent: Epoch | None = None) -> Epoch:
    return epochs.open_epoch(host.app, parent, "a test")


def store_of(host: Host) -> s3.Bucket:
    return epochs.bucket(host.app)


def test_epochs_follow_one_another_and_the_chain_tells_how(host: Host) -> None:
    first = opened(host)
    second = opened(host, first)
    third = opened(host, second)
    assert first.published
    assert epochs.chain(store_of(host)) == [third, second, first]
    assert epochs.local(host.app) == third


def test_of_two_hosts_that_open_at_once_one_wins_and_the_other_is_told(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    first = opened(one)
    with pytest.raises(HostError, match="another host has taken over"):
        opened(two)
    assert epochs.current(two.app, store_of(two)) == first
    mine = epochs.local(two.app)
    assert mine is not None
    assert not mine.published


def test_a_dropped_epoch_is_gone_and_the_chain_ends_before_it(host: Host) -> None:
    first = opened(host)
    second = opened(host, first)
    store = store_of(host)
    store.put(f"{store.prefix}/{first.epoch}/shop.db/0000/1.ltx", b"data")
    epochs.delete(store, first)
    assert not store.any(f"{store.prefix}/{first.epoch}/")
    assert epochs.chain(store) == [second]


def test_an_epoch_that_lost_is_no_part_of_the_chain(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    first = opened(one)
    with pytest.raises(HostError, match="another host"):
        opened(two)
    second = opened(one, first)
    assert epochs.chain(store_of(one)) == [second, first]


def test_an_answer_that_was_lost_is_found_to_have_been_a_success(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    put = s3.Bucket.put

    def forgetful(self: s3.Bucket, key: str, data: bytes, **conditions: object) -> str:
        etag = put(self, key, data, **conditions)  # type: ignore[arg-type]
        if conditions:
            put(self, key, data, **conditions)  # type: ignore[arg-type]
        return etag

    monkeypatch.setattr(s3.Bucket, "put", forgetful)
    assert opened(host).published


def test_an_epoch_opened_while_s3_is_away_is_published_later_and_leaves_no_gap_in_the_chain(host: Host) -> None:
    first = opened(host)
    away = host.store.backup(host.bucket_name)
    second = epochs.new_local(host.app, away, first, "S3 is away")
    third = epochs.new_local(host.app, away, second, "S3 is still away")
    assert (third.parent, third.published) == (first.epoch, False)
    published = epochs.publish(host.app, store_of(host))
    assert epochs.chain(store_of(host)) == [published, first]


def test_going_back_to_an_earlier_epoch_leaves_the_later_one_out(host: Host) -> None:
    first = opened(host)
    second = opened(host, first)
    assert epochs.return_to(host.app, first) == first._replace(published=True, replaces=None)
    assert epochs.chain(store_of(host)) == [first]
    third = opened(host, epochs.local(host.app))
    assert epochs.chain(store_of(host)) == [third, first]
    assert second.epoch not in [epoch.epoch for epoch in epochs.chain(store_of(host))]


def test_a_prefix_of_another_app_is_refused(host: Host) -> None:
    text = b'{"epoch": "20260101T000000Z-aaaaaa", "app": "other", "host": "x", "opened": 1, "parent": null}'
    store_of(host).put("shop/CURRENT", text)
    with pytest.raises(HostError, match="holds the backup of another app: other"):
        opened(host)
    store_of(host).put("shop/CURRENT", b"something else")
    with pytest.raises(HostError, match="was not written by Homeport"):
        opened(host)


def test_another_bucket_is_another_beginning(host: Host) -> None:
    opened(host)
    host.configure(prefix="elsewhere")
    assert epochs.local(host.app) is None
    host.configure()
    assert epochs.local(host.app) is not None


def test_a_takeover_goes_on_from_what_counted(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    first = opened(one)
    two.path.write_bytes(b"a database")
    second = epochs.takeover(two.app)
    assert (second.parent, second.host) == (first.epoch, second.host)
    assert epochs.chain(store_of(one)) == [second, first]
    assert epochs.takeover(two.app) == second


def test_a_takeover_without_any_data_leaves_it_to_the_next_start_to_restore(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    first = opened(one)
    with pytest.raises(HostError, match="another host"):
        opened(two)
    epochs.mark_superseded(two.app, first)
    assert epochs.takeover(two.app) == first
    assert epochs.local(two.app) is None
    assert epochs.superseded(two.app) is None
