"""The decisions: where to roll back to, what to prune, which port, forward or back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import HostError
from hostctl.instance import start
from hostctl.journal import engine
from hostctl.release import changes, selection
from hostctl.release.selection import Candidate


def one(number: int, state: str = "superseded", **more: object) -> Candidate:
    lived = float(number) if state in ("live", "superseded") else 0.0
    return Candidate(
        f"2026010{number}T000000Z-{number}aaaaaa", state, **{"lived": lived, "sha": f"{number}" * 40, **more}
    )  # type: ignore[arg-type]


A, B, C = one(1), one(2), one(3, "live")

SEEN = st.builds(
    Candidate,
    release=st.integers(1, 40).map(lambda n: f"20260101T0000{n:02d}Z-aaaaaaa"),
    state=st.sampled_from(["staged", "live", "superseded", "failed"]),
    lived=st.floats(0, 100),
    withdrawn=st.booleans(),
    present=st.booleans(),
    running=st.booleans(),
    digest=st.sampled_from(["d1", "d2", "d3", "d4", "d5", "d6"]),
)
MANY = st.lists(SEEN, max_size=20, unique_by=lambda seen: seen.release)


def test_the_default_target_is_the_last_release_that_was_live_before_this_one() -> None:
    assert selection.rollback_target([A, B, C], C.release, None) == B.release


def test_a_failed_release_between_is_passed_over() -> None:
    failed = one(2, "failed")
    assert selection.rollback_target([A, failed, C], C.release, None) == A.release


def test_what_was_live_last_counts_not_what_was_made_last() -> None:
    older_but_live_again = A._replace(lived=2.5)
    assert selection.rollback_target([older_but_live_again, B, C], C.release, None) == A.release


def test_a_release_that_was_taken_back_is_no_default_but_can_be_named() -> None:
    withdrawn = B._replace(withdrawn=True)
    assert selection.rollback_target([A, withdrawn, C], C.release, None) == A.release
    assert selection.rollback_target([A, withdrawn, C], C.release, B.release) == B.release


def test_where_every_earlier_release_was_taken_back_the_refusal_names_one() -> None:
    with pytest.raises(HostError, match="taken back") as caught:
        selection.rollback_target([B._replace(withdrawn=True), C], C.release, None)
    assert B.release in caught.value.fix


@pytest.mark.parametrize("wanted", [A.release, A.release[:8], "1" * 40, "1" * 7])
def test_a_release_is_named_by_id_prefix_or_sha(wanted: str) -> None:
    assert selection.rollback_target([A, B, C], C.release, wanted) == A.release


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("2026", "3 releases match"),
        ("nothing", "no release matches"),
        ("111111", "no release matches"),  # too short for a sha
        (C.release, "is live already"),
    ],
)
def test_what_names_no_single_other_release_is_refused(wanted: str, why: str) -> None:
    with pytest.raises(HostError, match=why):
        selection.rollback_target([A, B, C], C.release, wanted)


def test_a_failed_release_is_refused_by_name_with_the_reason() -> None:
    with pytest.raises(HostError, match="never live and healthy"):
        selection.rollback_target([one(2, "failed"), C], C.release, one(2).release)


def test_a_release_whose_files_are_gone_is_refused() -> None:
    with pytest.raises(HostError, match="files of"):
        selection.rollback_target([A._replace(present=False), C], C.release, A.release)


def test_of_a_sha_pushed_twice_the_usable_newest_is_meant() -> None:
    twice = [one(n, state, sha="f" * 40) for n, state in ((1, "superseded"), (2, "superseded"), (3, "failed"))]
    assert selection.rollback_target([*twice, one(4, "live")], one(4).release, "f" * 7) == twice[1].release


@given(MANY)
def test_a_default_target_was_live_is_there_and_is_not_live_now(seen: list[Candidate]) -> None:
    live = seen[0].release if seen else None
    try:
        target = selection.rollback_target(seen, live, None)
    except HostError:
        return
    found = next(item for item in seen if item.release == target)
    assert found.lived
    assert found.present
    assert not found.withdrawn
    assert found.state != "failed"
    assert target != live


@given(MANY, st.integers(1, 6))
def test_pruning_never_takes_what_is_live_runs_or_is_staged(seen: list[Candidate], retain: int) -> None:
    live = seen[0].release if seen else None
    gone = set(selection.prunable(seen, live, retain))
    kept = [item for item in seen if item.release not in gone]
    assert live is None or live not in gone
    assert all(not item.running and item.state != "staged" for item in seen if item.release in gone)
    idle = [item for item in kept if item.state in ("live", "superseded") and not item.running and item.release != live]
    assert len(idle) <= max(0, retain - 1)
    assert len([item for item in kept if item.state == "failed" and not item.running]) <= selection.KEPT_FAILURES + 1


def test_of_the_good_releases_the_last_live_ones_are_kept() -> None:
    assert selection.prunable([A, B, C], C.release, 2) == [A.release]
    assert selection.prunable([A._replace(lived=2.5), B, C], C.release, 2) == [B.release]


@given(MANY)
def test_the_live_release_keeps_its_artifact(seen: list[Candidate]) -> None:
    kept = selection.kept_artifacts(seen, seen[0].release if seen else None)
    assert not seen or seen[0].digest in kept


def test_a_release_that_failed_keeps_its_artifact_for_the_next_try() -> None:
    failed = one(4, "failed", digest="d4")
    assert "d4" in selection.kept_artifacts([A, B, C, failed], C.release)


def test_failures_do_not_crowd_out_the_artifact_of_the_live_release() -> None:
    seen = [one(1, "live", digest="good"), *(one(n, "failed", digest=f"bad{n}") for n in range(2, 9))]
    kept = selection.kept_artifacts(seen, seen[0].release)
    assert kept == {"good", "bad8", "bad7", "bad6"}


@given(st.sets(st.sampled_from(list(start.PORTS[:50])), max_size=49), st.integers(0, 49))
def test_a_port_is_the_first_that_is_free(taken: set[int], first: int) -> None:
    chosen = start.free_port(taken, lambda port: True, first)
    assert chosen not in taken
    assert chosen in start.PORTS
    assert all(port in taken for port in range(start.PORTS[first], chosen))


def test_ports_go_round_and_skip_what_cannot_be_had() -> None:
    last = len(start.PORTS) - 1
    assert start.free_port(set(), lambda port: True, last) == start.PORTS[-1]
    skipped = {start.PORTS[-1], start.PORTS[0]}
    assert start.free_port(skipped, lambda port: port != start.PORTS[1], last) == start.PORTS[2]
    with pytest.raises(HostError, match="no port"):
        start.free_port(set(), lambda port: False, 0)


@pytest.mark.parametrize(
    ("live", "begun", "reverting", "forward"),
    [
        ("new", ["start", "flip"], False, True),
        ("old", ["start", "flip"], False, False),
        ("new", ["start", "flip", "verify"], True, False),
        ("new", ["start"], False, False),
        (None, [], False, False),
    ],
)
def test_only_a_flip_that_happened_and_was_not_given_up_is_finished(
    live: str | None, begun: list[str], reverting: bool, forward: bool
) -> None:
    assert engine.must_finish(live, "new", begun, reverting) is forward


def test_changed_keys_are_dotted_and_name_what_came_and_went() -> None:
    old = {"a": 1, "health": {"path": "/", "timeout": 1}, "gone": None}
    new = {"a": 1, "health": {"path": "/up", "timeout": 1}, "came": 2}
    assert changes.changed_keys(old, new) == ["came", "gone", "health.path"]
