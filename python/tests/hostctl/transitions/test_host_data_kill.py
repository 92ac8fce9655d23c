"""kill -9 at any act of a transition that exchanges the data, and of its recovery: what is left is the old data or the
new, whole, with the release that it belongs to; never a mix, and what was given up is always kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from dataworld import FIRST, DataWorld
from hostworld import KILLER, SCRATCH, killed
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_host_kill import recovered

from hostctl.journal import journal
from hostctl.release import records
from hostctl.transitions import begin
from hostctl.transitions.steps import restore

OLD = ["between", "after", "in the log"]
NEW = {"rollback": ["before", "between"], "restore": ["then"]}
MOST_ACTS = 330


@contextmanager
def a_world() -> Iterator[DataWorld]:
    root = Path(tempfile.mkdtemp(prefix="hostctl-test-", dir=SCRATCH))
    world = DataWorld(root)
    try:
        world.provision()
        yield world
    finally:
        KILLER.disarm()
        shutil.rmtree(root)


def scenario(world: DataWorld, verb: str, how: str | None = None) -> Callable[[], object]:
    """Two releases, rows that are in the log alone, and what is to be interrupted."""
    world.write("before")
    first = world.push("one")["release"]
    world.write("between")
    world.migration = "DELETE FROM items WHERE n = 'before'"
    second = world.push("two")["release"]
    world.drain_all()
    world.migration = ""
    world.write("after")
    world.leave_in_log("in the log")
    world.replica.kept = world.root / "s3.db"
    world.execute(
        "CREATE TABLE items(n); CREATE TABLE boots(unit); INSERT INTO items VALUES ('then')", world.replica.kept
    )
    world.sick = {first if verb == "rollback" else second: how} if how else {}
    return partial(begun, world, verb)


def begun(world: DataWorld, verb: str) -> object:
    if verb == "rollback":
        return begin.rollback_with_data(world.app, None, None, "ann", "", 0, world.host)
    data = restore.source(world.app, 1500.0, None, world.host)
    return begin.restore_in_place(world.app, data, "ann", "", 0, world.host)


def assert_sound(world: DataWorld, verb: str) -> bool:
    """The app serves on the old data or on the new one; whether it is the new."""
    app = world.app
    live = app.live() or ""
    assert journal.unfinished(app) == []
    world.drain_all()
    assert journal.draining(app) == []
    assert world.running == {app.unit(live), app.stream_unit}
    assert not (app.backup / "paused").exists()
    port = records.port(app, live)
    assert records.environment(app, live)["PORT"] == str(port)
    assert world.listening[app.unit(live)] == port
    assert not list(app.records.glob("*/port.next"))
    rows, (first, second) = world.rows(), sorted(world.states())
    if rows == OLD:
        assert live == second
        assert world.replica.epoch(app) == FIRST
        assert (world.database.with_name(".shop.db-litestream") / "ltx").is_file()
        assert not list(app.aside.glob("*/old/*"))
        return False
    assert rows == NEW[verb]
    assert live == (first if verb == "rollback" else second)
    assert world.replica.epoch(app) == f"{FIRST}+"
    (kept,) = app.aside.iterdir()
    assert world.rows(kept / "old/shop.db") == OLD
    assert not list(app.state.glob("fetched-*"))
    return True


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    verb=st.sampled_from(["rollback", "restore"]),
    how=st.sampled_from([None, None, "500", "crashes"]),
    kills=st.lists(st.integers(0, MOST_ACTS), min_size=1, max_size=3),
    reboots=st.booleans(),
)
@example(verb="rollback", how=None, kills=[120], reboots=True)
def test_killed_at_any_act_the_data_is_the_old_or_the_new_and_whole(
    verb: str, how: str | None, kills: list[int], reboots: bool
) -> None:
    with a_world() as world:
        work = scenario(world, verb, how)
        rebooted = False
        for acts in kills:
            if not killed(world.root, acts, work, may_fail=True):
                break
            # who was sick is not so any more: a recovery that finds no healthy instance at all asks for a person
            world.sick.clear()
            if reboots:
                world.reboot()
                rebooted = True
            work = partial(recovered, world, rebooted)
        world.sick.clear()
        recovered(world, rebooted)
        rows = world.rows()
        assert_sound(world, verb)
        assert world.push("after")["result"] == "live"
        assert world.rows() == rows


@pytest.mark.parametrize("verb", ["rollback", "restore"])
def test_every_single_act_can_be_the_last(verb: str) -> None:
    with a_world() as world:
        work = scenario(world, verb)
        KILLER.arm(world.root, None)
        work()
        acts = KILLER.acts
        KILLER.disarm()
    assert acts < MOST_ACTS
    outcomes = set()
    for after in range(0, acts, 3):
        with a_world() as world:
            assert killed(world.root, after, scenario(world, verb), may_fail=True)
            recovered(world, rebooted=False)
            outcomes.add(assert_sound(world, verb))
    assert outcomes == {True, False}  # early kills are undone, late ones finished
