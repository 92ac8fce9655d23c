"""Real servers for every test of PostgreSQL: S3 with TLS, clusters that are copies of one, pgBackRest."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "backup"))  # the S3 server is theirs

from objectstore import Store, forget_sockets
from pgworld import PREFIX, Host, TlsStore, directory

from hostctl.core.paths import App
from hostctl.postgres.server import cluster
from hostctl.postgres.server import create as postgres_create


def clear_what_killed_runs_left() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    forget_sockets()


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """A real S3 server (SeaweedFS) with TLS on 127.0.0.1. A test that stops or freezes it brings it back itself."""
    clear_what_killed_runs_left()
    server = TlsStore(directory())
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
def template(store: Store) -> Iterator[Path]:
    """The data of a cluster as `postgres_create.create` makes it."""
    host = Host(directory(), store, "none", backup=False)
    postgres_create.create(host.app, host)  # type: ignore[arg-type]
    yield host.app.cluster_data
    shutil.rmtree(host.root)


@pytest.fixture
def quick(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New clusters are copies of the template: initdb takes seconds."""

    def create(app: App, _: object) -> bool:
        if app.cluster_data.exists():
            return False
        cluster.use_version(app, cluster.installed_majors()[-1])
        shutil.copytree(template, app.cluster_data)
        for path in (app.cluster_data, *app.cluster_data.rglob("*")):
            shutil.chown(path, cluster.SUPERUSER, cluster.SUPERUSER)
        return True

    monkeypatch.setattr(postgres_create, "create", create)


@pytest.fixture
def new_host(store: Store, bucket: str, quick: None) -> Iterator[Callable[..., Host]]:
    """Makes hosts that share one bucket and prefix; ends what they run, and removes them."""
    made: list[Host] = []

    def make(**more: Any) -> Host:
        made.append(Host(directory(), store, bucket, **more))
        return made[-1]

    yield make
    for host in made:
        host.systemd.power_cut()
        shutil.rmtree(host.root, ignore_errors=True)


@pytest.fixture
def host(new_host: Callable[..., Host]) -> Host:
    return new_host()
