"""A second app on the host: one that must never run twice, on a disk of its own that fills up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import (
    SETTINGS,
    Json,
    Project,
    another,
    check_told,
    footprint,
    new_project,
    on_host,
    settled,
    version,
)

Artifacts = dict[int, Path]
Measured = Callable[..., None]
APP = "small"
DOMAIN = f"{APP}.sandbox.test"
TREES, STATE = f"/srv/{APP}", f"/var/lib/homeport/{APP}"
DISK_MB = 400
ALONE: Json = {**SETTINGS, "app": APP, "domains": [DOMAIN], "release": {"strategy": "restart"}}


@pytest.fixture(scope="module")
def disk(live: Sandbox) -> Iterator[Sandbox]:
    """The host with a small file system each for what is unpacked and for what is kept of it."""
    for path in (TREES, STATE):
        mount = f"mount -t tmpfs -o size={DISK_MB}m,mode=755 {APP} {path}"
        on_host(live, f"mkdir -p {path} && (mountpoint -q {path} || {mount})")
    yield live
    on_host(live, f"systemctl stop '{APP}@*' && umount {TREES} {STATE}")


@pytest.fixture(scope="module")
def second(disk: Sandbox, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The second app, provisioned and pushed once."""
    project = new_project(tmp_path_factory.mktemp(APP) / "project", disk, ALONE, DOMAIN)
    project.deploy("setup", "--artifact", artifacts[1])
    return project


@pytest.fixture
def app(second: Project) -> Project:
    """The second app, of whatever version."""
    second.configure(**ALONE, env={})
    settled(second)
    return second


def test_an_app_that_must_not_run_twice_is_switched_without_a_lost_request(
    app: Project, artifacts: Artifacts, measured: Measured
) -> None:
    first = app.live()
    with app.load() as load:
        load.mark("push")
        pushed = app.push(another(app, artifacts))["release"]
        load.mark("rollback")
        assert app.deploy("rollback", "--json").json["release"] == first
    for verb in ("push", "rollback"):
        measured(f"{verb}, release.strategy: restart", load.report.phase(verb))
    assert load.report.failures == []
    assert len(load.report.versions) == 2
    order = [f"Stopped {first}", f"Started {pushed}", f"Stopped {pushed}", f"Started {first}"]
    assert lives(app, first, pushed)[-4:] == order


def lives(app: Project, *releases: str) -> list[str]:
    """When each instance had started and had ended, in order, as systemd wrote it down."""
    units = " ".join(f"-u '{APP}@{release}'" for release in releases)
    told = on_host(app.box, f"journalctl --sync; journalctl -q -o cat _PID=1 {units}")
    found = re.findall(rf"^(Started|Stopped) {APP}@(\S+)\.service", told, re.MULTILINE)
    return [f"{verb} {release}" for verb, release in found]


def test_an_app_that_must_not_run_twice_comes_back_when_the_new_one_crashes(
    app: Project, artifacts: Artifacts, measured: Measured
) -> None:
    before, bad = version(app), another(app, artifacts)
    app.configure(env={"clear": {"HELLO_CRASH_AT_BOOT": "1"}})
    with app.load() as load:
        failed = app.deploy("push", "--artifact", bad, "--json", check=False)
    measured("push that crashes at boot, release.strategy: restart", load.report.total)
    check_told(failed, 3, "died while it started")
    assert load.report.failures == []
    assert version(app) == {**before, "pid": version(app)["pid"]}


@contextmanager
def full(box: Sandbox, path: str, left_mb: int) -> Iterator[None]:
    """The file system at `path` with no more than that left."""
    free = f"$(( $(stat -f -c '%a * %S' {path}) - {left_mb << 20} ))"
    on_host(box, f"fallocate -l {free} {path}/ballast")
    try:
        yield
    finally:
        on_host(box, f"rm {path}/ballast")


@contextmanager
def few_files(box: Sandbox, path: str, left: int) -> Iterator[None]:
    """The file system at `path` with room for no more files than that."""
    used = int(on_host(box, f"df --output=iused {path} | tail -1"))
    on_host(box, f"mount -o remount,nr_inodes={used + left} {path}")
    try:
        yield
    finally:
        on_host(box, f"mount -o remount,nr_inodes=100000 {path}")


@pytest.mark.parametrize(
    ("where", "disk_is", "code", "says"),
    [
        pytest.param(
            *("for uploads", lambda box: full(box, STATE, 32), 1, "disk is full: the upload needs"),
            marks=pytest.mark.full,
        ),
        ("for releases", lambda box: full(box, TREES, 4), 1, "disk is full: unpacking needs"),
        pytest.param(
            *("for files", lambda box: few_files(box, TREES, 100), 3, "disk is full: No space left"),
            marks=pytest.mark.full,
        ),
    ],
    ids=["uploads", "releases", "files"],
)
def test_a_push_that_meets_a_full_disk_changes_nothing(
    app: Project,
    artifacts: Artifacts,
    measured: Measured,
    where: str,
    disk_is: Callable[[Sandbox], AbstractContextManager[None]],
    code: int,
    says: str,
) -> None:
    before, first_app = footprint(app), processes(app, "hello")
    # a release that the host holds already would need no room for an upload
    artifact = artifacts[3] if where == "for uploads" else another(app, artifacts)
    with app.load() as load, disk_is(app.box):
        failed = app.deploy("push", "--artifact", artifact, "--json", check=False)
    measured(f"push that meets a full disk {where}", load.report.total)
    check_told(failed, code, says)
    assert "free some space on the host" in failed.json["error"]["fix"]
    assert load.report.failures == []
    assert footprint(app) == before
    pushed = app.push(artifact)
    assert version(app)["release"] == pushed["release"]
    assert processes(app, "hello") == first_app


def processes(app: Project, name: str) -> list[str]:
    """The processes of an app on the host."""
    found = on_host(app.box, f"pgrep -u {name} -x beam.smp").split()
    assert found
    return found


def test_a_rollback_needs_no_disk_that_is_not_there(app: Project, artifacts: Artifacts) -> None:
    """With not a byte free a rollback is refused as a whole; it works as soon as there is room."""
    earlier = app.live()
    app.push(another(app, artifacts))
    before = footprint(app)
    with full(app.box, STATE, 0):
        failed = app.deploy("rollback", "--json", check=False)
    check_told(failed, 1, "disk is full: No space left")
    assert footprint(app) == before
    assert app.deploy("rollback", "--json").json["release"] == earlier == version(app)["release"]
