from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.support import Instance, copy_app, mix, running


@pytest.fixture(scope="session")
def hello_app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example app, its release built as a deployer builds it."""
    app = copy_app("hello", tmp_path_factory.mktemp("hello") / "app")
    mix(app, "assets.deploy")
    mix(app, "release", "--path", str(app.parent / "hello"))
    return app


@pytest.fixture(scope="session")
def hello_release(hello_app: Path) -> Path:
    return hello_app.parent / "hello"


@pytest.fixture(scope="session")
def hello(hello_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One instance for the tests that leave it as it was."""
    with running(hello_release, tmp_path_factory.mktemp("run"), {"GREETING": "good morning"}) as instance:
        yield instance
