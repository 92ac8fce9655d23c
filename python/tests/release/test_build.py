"""release.build: where to build, and why."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.core.errors import HomeportError
from homeport.release import build
from homeport.release.build import Laptop

HERE = Laptop("Linux", "x86_64", "2.36", True, "podman")
HOST: dict[str, Any] = {"machine": "x86_64", "glibc": "2.41"}


@pytest.mark.parametrize(
    ("here", "host", "strategy", "reason"),
    [
        (HERE, HOST, "local", "like the host"),
        (HERE, None, "local", "mix is here"),
        (HERE._replace(has_mix=False), HOST, "container", "mix is not here; podman is here"),
        (HERE._replace(glibc="2.42"), HOST, "container", "glibc 2.42, the host only 2.41"),
        (HERE._replace(glibc="2.9"), HOST, "local", "like the host"),
        (HERE._replace(machine="aarch64"), HOST, "container", "aarch64, the host is x86_64"),
        (HERE._replace(system="Darwin", glibc="", engine="docker"), None, "container", "Darwin"),
        (HERE._replace(glibc="", engine=""), HOST, "host", "neither podman nor docker"),
        (Laptop("Linux", "x86_64", "2.36", False, ""), None, "host", "mix is not here"),
    ],
)
def test_auto_takes_the_first_that_fits_and_says_why(
    here: Laptop, host: dict[str, Any] | None, strategy: str, reason: str
) -> None:
    found = build.plan("auto", here, host)
    assert found.strategy == strategy
    assert reason in found.reason


@pytest.mark.parametrize("wanted", ["local", "container", "host"])
def test_what_deploy_yml_says_is_done(wanted: str) -> None:
    assert build.plan(wanted, HERE, HOST).strategy == wanted


@pytest.mark.parametrize(("wanted", "missing"), [("local", "mix"), ("container", "podman or docker")])
def test_what_cannot_be_done_here_is_refused(wanted: str, missing: str) -> None:
    with pytest.raises(HomeportError, match=missing) as caught:
        build.plan(wanted, HERE._replace(has_mix=False, engine=""), HOST)
    assert caught.value.code == 2
    assert "release.build" in caught.value.fix


def test_this_machine_can_be_described() -> None:
    assert build.laptop().system
