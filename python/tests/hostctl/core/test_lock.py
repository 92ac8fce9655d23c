"""The lock: who holds it, who must wait, who must not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostworld import World

from hostctl.common.errors import LOCKED, HostError
from hostctl.core import lock

PYTHON_PATH = str(Path(lock.__file__).parents[2])
HOLD = """
import sys, time
from pathlib import Path
from hostctl.core.lock import Flock
with Flock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def other_process(world: World) -> subprocess.Popen[str]:
    """A process that holds the lock until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(world.app.lock)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": PYTHON_PATH},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def told(**more: object) -> dict[str, object]:
    return {
        "who": "bob",
        "from": "198.51.100.7",
        "verb": "push",
        "phase": "health",
        "since": time.time(),
        "manual": False,
        **more,
    }


def test_free_when_nobody_ever_took_it(world: World) -> None:
    assert lock.holder(world.app) is None


def test_the_holder_is_named_while_its_process_lives_and_forgotten_when_it_is_killed(world: World) -> None:
    lock.update(world.app, told())
    process = other_process(world)
    holder = lock.holder(world.app)
    kill(process)
    assert holder is not None
    assert holder["who"] == "bob"
    assert lock.holder(world.app) is None


def test_a_second_comer_is_refused_with_who_from_where_verb_and_step(world: World) -> None:
    lock.update(world.app, told())
    process = other_process(world)
    try:
        with pytest.raises(HostError) as caught:
            lock.wait_until_free(world.app, 0)
    finally:
        kill(process)
    assert caught.value.code == LOCKED
    assert all(word in caught.value.what for word in ("bob", "198.51.100.7", "push", "health"))


def test_a_transition_is_waited_for(world: World) -> None:
    lock.update(world.app, told())
    process = other_process(world)
    timer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {process.pid}"])
    lock.wait_until_free(world.app, 20)
    timer.wait()
    process.communicate()
    assert lock.holder(world.app) is None


def test_a_holder_that_is_about_to_let_go_is_waited_for_without_being_asked_to(world: World) -> None:
    lock.update(world.app, told(phase=lock.ENDING))
    process = other_process(world)
    timer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {process.pid}"])
    lock.wait_until_free(world.app, 0)
    timer.wait()
    process.communicate()


def test_a_manual_lock_refuses_everybody_at_once_however_long_they_would_wait(world: World) -> None:
    lock.acquire(world.app, "ann", "198.51.100.1", "moving the database")
    begun = time.monotonic()
    with pytest.raises(HostError, match="moving the database"):
        lock.wait_until_free(world.app, 600)
    assert time.monotonic() - begun < 60
    with pytest.raises(HostError, match="ann") as caught:
        world.push("one")
    assert caught.value.code == LOCKED
    assert world.states() == {}


def test_only_who_locked_releases_unless_forced(world: World) -> None:
    lock.acquire(world.app, "ann", "", "")
    with pytest.raises(HostError, match="ann"):
        lock.release(world.app, "bob", force=False)
    assert lock.release(world.app, "bob", force=True) is not None
    assert lock.holder(world.app) is None
    assert lock.release(world.app, "bob", force=False) is None


def test_a_lock_cannot_be_taken_by_hand_while_a_transition_works(world: World) -> None:
    lock.update(world.app, told())
    process = other_process(world)
    try:
        with pytest.raises(HostError, match="bob"):
            lock.acquire(world.app, "ann", "", "")
        with pytest.raises(HostError, match="bob"):
            lock.release(world.app, "ann", force=True)
    finally:
        kill(process)
