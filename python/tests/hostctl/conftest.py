"""Hosts in directories, removed after each test."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostworld import KILLER, SCRATCH, World


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> None:
    """Remove the hosts that a killed earlier run left."""
    for path in Path(SCRATCH or tempfile.gettempdir()).glob("hostctl-test-*"):
        if path.stat().st_mtime < time.time() - 3600:
            shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def new_world() -> Iterator[Callable[[], World]]:
    """Makes provisioned hosts, any number of them in one test, and removes them."""
    made: list[Path] = []
    before = signal.getsignal(signal.SIGTERM)

    def make() -> World:
        made.append(Path(tempfile.mkdtemp(prefix="hostctl-test-", dir=SCRATCH)))
        world = World(made[-1])
        world.provision()
        return world

    yield make
    KILLER.disarm()
    signal.signal(signal.SIGTERM, before)
    for path in made:
        shutil.rmtree(path)


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()
