"""What an older hostctl left on a host, at any act of any transition, this one reads, mends and goes on with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_host_data_kill
import test_host_kill
from dataworld import DataWorld
from hostworld import SCRATCH, World

from hostctl import cli
from hostctl.common.errors import HostError
from tests.older import unpack

SCRIPT = Path(__file__).with_name("older_worlds.py")
NAMES = ("push", "push that fails", "push that restarts", "env", "rollback", "data rollback", "data restore")
Left = dict[str, Any]


@pytest.fixture(scope="module")
def left() -> Iterator[list[Left]]:
    """Hosts as the older hostctl leaves them: see older_worlds.py."""
    directory = Path(tempfile.mkdtemp(prefix="hostctl-test-", dir=SCRATCH))
    try:
        older = unpack(directory / "older").root / "python"
        done = subprocess.run(
            [sys.executable, "-", str(directory / "hosts")],
            input=SCRIPT.read_bytes(),
            env={**os.environ, "PYTHONPATH": f"{older}:{older / 'tests' / 'hostctl'}"},
            cwd=older,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode()
        yield json.loads(done.stdout)
    finally:
        shutil.rmtree(directory)


def taken_up(one: Left) -> World:
    """The host, with what is in no file of it."""
    world = (DataWorld if one["name"].startswith("data") else World)(Path(one["root"]))
    for name, value in one["held"].items():
        setattr(world, name, set(value) if name == "running" else value)
    if isinstance(world, DataWorld):
        world.replica.kept = Path(one["kept"])
    return world


def answer(world: World, verb: str) -> Any:
    """What hostctl prints, or of a refusal its code."""
    try:
        return cli.run([world.app.name, *verb.split()], world.app.layout, 0, None)
    except HostError as error:
        return {"code": error.code}


@pytest.mark.parametrize("name", NAMES)
def test_what_an_older_hostctl_left_is_read_as_it_read_it_then_mended_and_gone_on_with(
    left: list[Left], name: str
) -> None:
    hosts = [one for one in left if one["name"] == name]
    assert len(hosts) > 5
    finished = set()
    for one in hosts:
        world = taken_up(one)
        assert {verb: answer(world, verb) for verb in one["read"]} == one["read"], one["acts"]
        test_host_kill.recovered(world, rebooted=False)
        finished.add(check_sound(world, one))
        live = world.app.live()
        assert world.push("after")["result"] == "live", one["acts"]
        world.drain_all()
        assert world.rollback(live)["result"] == "live", one["acts"]
    # killed early it is undone, late it is finished
    assert finished == ({False} if name == "push that fails" else {False, True})


def check_sound(world: World, one: Left) -> bool:
    """Whether the transition was finished, on a host where nothing is half done."""
    if isinstance(world, DataWorld):
        return test_host_data_kill.assert_sound(world, one["name"].removeprefix("data "))
    test_host_kill.assert_sound(world)
    return world.app.live() != one["before"]
