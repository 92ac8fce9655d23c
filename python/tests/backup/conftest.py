"""A real S3 server and the real Litestream, for every test of the backup."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from objectstore import Store, forget_sockets
from world import Host

from homeport.core import pinned_programs

PREFIX = "backup-test-"


def directory() -> Path:
    """A directory of this run's own, by whose name another run can tell whether this one still lives."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def clear_what_killed_runs_left() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    forget_sockets()


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """A real S3 server (SeaweedFS) on 127.0.0.1. A test that stops or freezes it brings it back itself."""
    clear_what_killed_runs_left()
    server = Store(directory())
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)


@pytest.fixture
def bucket(store: Store) -> str:
    """The name of a new, empty bucket."""
    return store.make_bucket(f"t{secrets.token_hex(6)}")


@pytest.fixture(scope="session")
def litestream() -> Path:
    """The pinned Litestream."""
    return pinned_programs.fetch("litestream", platform.machine())


@pytest.fixture
def new_host(store: Store, bucket: str, litestream: Path) -> Iterator[Callable[..., Host]]:
    """Makes hosts that share one bucket and prefix; ends what they run, and removes them."""
    made: list[Host] = []

    def make(**more: Any) -> Host:
        made.append(Host(directory(), store, bucket, litestream, **more))
        return made[-1]

    yield make
    for host in made:
        host.systemd.power_cut()
        shutil.rmtree(host.root, ignore_errors=True)


@pytest.fixture
def host(new_host: Callable[..., Host]) -> Host:
    return new_host()
