"""One host for all tests that one process runs of this directory, and the releases that they push to it.

HOMEPORT_TEST_BOX names a sandbox to use in place of the tests' own; it is brought up if need be, and left up. With
several processes (-n) each has a host of its own, with the number of the process in its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.report import Phase
from homeport import sandbox
from homeport.sandbox import Sandbox
from tests.host import support
from tests.host.support import Project, build, new_project

NAMED = os.environ.get("HOMEPORT_TEST_BOX")
OWN_BOX = f"{NAMED or 't-e2e'}{os.environ.get('PYTEST_XDIST_WORKER', '').replace('gw', '-')}"
HERE = Path(__file__).parent
LONGEST = 1800  # seconds of one test, with a first host that is made for it


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--full"):
        support.RATE = support.FULL_RATE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)
            item.add_marker(pytest.mark.timeout(LONGEST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for each in terminalreporter.stats.values() for one in each if isinstance(one, pytest.TestReport)]
    figures = [str(told) for one in reports for name, told in one.user_properties if name == "figures"]
    if figures:
        terminalreporter.section("requests while releases changed")
        terminalreporter.write_line(f"{'answered':>9}{'failed':>8}{'excused':>9}{'slowest':>11}")
        terminalreporter.write_line("\n".join(figures))


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Notes what a load came to, for the summary; `excused` are POSTs in flight at the instant of a kill."""

    def note(scenario: str, phase: Phase, excused: int = 0) -> None:
        answered, failed = sum(phase.answered.values()), sum(phase.failed.values()) - excused
        record_property("figures", f"{answered:9}{failed:8}{excused:9}{phase.slowest * 1000:8.0f} ms  {scenario}")

    return note


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    """The host, a bare Debian when it is first used."""
    if NAMED:
        yield sandbox.up(OWN_BOX)
        return
    sandbox.down(OWN_BOX)
    try:
        yield sandbox.up(OWN_BOX)
    finally:
        sandbox.down(OWN_BOX)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The release directories of versions 1, 2 and 3 of the example app, for --artifact."""
    directory = tmp_path_factory.mktemp("releases")
    return {version: build(directory, version) for version in (1, 2, 3)}


@pytest.fixture(scope="session")
def live(box: Sandbox, artifacts: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """The host, provisioned for the example app, with version 1 pushed once. Later tests may have pushed others."""
    project = new_project(tmp_path_factory.mktemp("first"), box)
    project.deploy("setup", "--artifact", artifacts[1])
    return box


@pytest.fixture
def project(box: Sandbox, tmp_path: Path) -> Project:
    """A fresh copy of the app's deploy.yml. Ask for `live` as well where the host must have a release."""
    return new_project(tmp_path / "project", box)
