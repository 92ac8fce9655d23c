"""kill -9 at any act of a transition, of its recovery, and of the recovery of that: what is left is always
sound.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hostworld import KILLER, SCRATCH, World, killed
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hostctl.journal import journal
from hostctl.release import records
from hostctl.transitions import begin, recover

MOST_ACTS = 260


def scenario(world: World, verb: str, how: str | None, strategy: str) -> Callable[[], object]:
    """A host with two good releases, and what is to be interrupted on it."""
    world.push("one")
    world.push("two")
    world.drain_all()
    if verb == "rollback":
        world.provision(strategy=strategy)
        return lambda: begin.rollback(world.app, None, "ann", "", 0, world)  # type: ignore[arg-type]
    spec = world.spec("two", secrets={"KEY": "rotated"}) if verb == "env" else world.spec("three", strategy=strategy)
    if how is not None:
        world.sick[spec["release"]] = how
    return lambda: begin.push(world.app, spec, world, verb)  # type: ignore[arg-type]


def recovered(world: World, rebooted: bool) -> None:
    if rebooted:
        recover.boot([world.app], world)  # type: ignore[arg-type]
    else:
        recover.verb(world.app, world)  # type: ignore[arg-type]


def assert_sound(world: World) -> None:
    """One live release, and of everything else no trace that it was ever begun."""
    app, live = world.app, world.app.live()
    assert live is not None
    assert journal.unfinished(app) == []
    world.drain_all()
    assert journal.draining(app) == []
    assert world.running == {app.unit(live)}
    assert world.get(443, "shop.test", "/", 1, tls=True).is_success
    states = world.states()
    assert [release for release, state in states.items() if state == "live"] == [live]
    assert "staged" not in states.values()
    good = {release for release, state in states.items() if state != "failed"}
    assert {path.name for path in app.trees.iterdir()} == good
    assert all((app.record(release) / "environment.cred").exists() == (release in good) for release in states)
    assert {path.name for path in app.records.iterdir()} == set(states)
    assert (app.srv / "current").readlink().name == live


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    verb=st.sampled_from(["push", "push", "env", "rollback"]),
    how=st.sampled_from([None, None, "500", "crashes"]),
    strategy=st.sampled_from(["overlap", "restart"]),
    kills=st.lists(st.integers(0, MOST_ACTS), min_size=1, max_size=3),
    reboots=st.booleans(),
)
@example(verb="push", how=None, strategy="overlap", kills=[0], reboots=True)
def test_killed_at_any_act_and_recovered_the_host_is_sound_and_takes_the_next_push(
    verb: str, how: str | None, strategy: str, kills: list[int], reboots: bool
) -> None:
    world = World(Path(tempfile.mkdtemp(prefix="hostctl-test-", dir=SCRATCH)))
    try:
        world.provision()
        work = scenario(world, verb, how, strategy)
        rebooted = False
        for acts in kills:
            if not killed(world.root, acts, work, may_fail=True):
                break
            if reboots:
                world.reboot()
                rebooted = True
            work = partial(recovered, world, rebooted)
        recovered(world, rebooted)
        assert_sound(world)
        assert world.push("after")["result"] == "live"
        assert_sound(world)
    finally:
        shutil.rmtree(world.root)


def test_every_single_act_of_a_push_can_be_the_last(new_world: Callable[[], World]) -> None:
    world = new_world()
    work = scenario(world, "push", None, "overlap")
    KILLER.arm(world.root, None)
    work()
    acts = KILLER.acts
    KILLER.disarm()
    outcomes = set()
    for after in range(0, acts, 3):
        one = new_world()
        assert killed(one.root, after, scenario(one, "push", None, "overlap"), may_fail=True)
        recovered(one, rebooted=False)
        assert_sound(one)
        outcomes.add(one.app.live() == max(records.releases(one.app)))
    assert outcomes == {True, False}  # early kills are undone, late ones finished


def test_a_starter_killed_before_the_unit_began_leaves_nothing(world: World) -> None:
    work = scenario(world, "push", None, "overlap")
    assert killed(world.root, 12, work, may_fail=True)
    assert world.push("next")["result"] == "live"
    assert_sound(world)
