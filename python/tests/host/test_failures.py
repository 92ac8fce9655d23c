"""Whatever goes wrong in a push, the release before serves on, the reason is told, and the next good push works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import APP, Json, Project, another, check_told, footprint, on_host, settled, version

Artifacts = dict[int, Path]
Measured = Callable[..., None]
GOOD: Json = {"env": {}, "release": {}}


@dataclass(frozen=True)
class Bad:
    """A push that must fail: with which settings, and what is said of it."""

    what: str
    says: str
    settings: Json = field(default_factory=dict)


def switched(**switches: str) -> Json:
    """The settings that turn on switches of the example app."""
    return {"env": {"clear": switches}}


BAD = [
    Bad("crashes at boot", r"died while it started.*HELLO_CRASH_AT_BOOT is set", switched(HELLO_CRASH_AT_BOOT="1")),
    Bad("is never healthy", r"not healthy within 15 s; GET /health", switched(HELLO_NEVER_HEALTHY="1")),
    Bad("answers 500", r"not healthy.*GET /health answered 500: the app fails", switched(HELLO_HEALTH_STATUS="500")),
    Bad("fails its migration", r"migration.*failed.*HELLO_FAIL_MIGRATION is set", switched(HELLO_FAIL_MIGRATION="1")),
    Bad(
        "migrates for too long",
        r"migration.*took longer than 2 s",
        {**switched(HELLO_SLOW_MIGRATION_MS="60000"), "release": {"migrate_timeout": "2s"}},
    ),
]


@pytest.fixture
def app(live: Sandbox, project: Project) -> Project:
    """The app with one instance, of whatever version."""
    settled(project)
    return project


RARER = ("answers 500", "migrates for too long")


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, id=bad.what, marks=[pytest.mark.full] * (bad.what in RARER)) for bad in BAD]
)
def test_a_push_that_fails_leaves_the_release_before_serving(
    app: Project, artifacts: Artifacts, bad: Bad, measured: Measured
) -> None:
    before, serving, artifact = footprint(app), version(app)["version"], another(app, artifacts)
    app.configure(**bad.settings)
    with app.load() as load:
        failed = app.deploy("push", "--artifact", artifact, "--json", check=False)
    measured(f"push that {bad.what}", load.report.total)
    check_told(failed, 3, bad.says)
    assert load.report.failures == []
    assert load.report.versions.keys() == {serving}
    assert footprint(app) == before
    check_kept(app)
    check_next_push(app, artifact)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"\x03\x00\x3e\x00", b"\x03\x00\xb7\x00", r"is for aarch64, .* is x86_64"),
        (b"GLIBC_2.34\0", b"GLIBC_9.99\0", r"needs glibc 9\.99, .* has glibc \d"),
    ],
    ids=["machine", "glibc"],
)
def test_a_release_for_another_abi_is_refused_before_anything_is_sent(
    app: Project, artifacts: Artifacts, tmp_path: Path, old: bytes, new: bytes, says: str
) -> None:
    before, held = footprint(app), artifacts_held(app)
    good = another(app, artifacts)
    release = patched(good, tmp_path / APP, old, new)
    with app.load() as load:
        refused = app.deploy("push", "--artifact", release, "--json", check=False)
    check_told(refused, 1, rf"would not run.*beam\.smp.*{says}")
    assert load.report.failures == []
    assert footprint(app) == before
    assert artifacts_held(app) == held
    assert app.push(good)["result"] == "live"


def artifacts_held(app: Project) -> str:
    return on_host(app.box, f"ls -A /var/lib/homeport/{APP}/artifacts")


def check_kept(app: Project) -> None:
    """Of a failed release the record and the logs stay, to be read; its secrets and its port do not."""
    failed = max(one["release"] for one in app.releases() if one["state"] == "failed")
    kept = on_host(app.box, f"ls /var/lib/homeport/{APP}/releases/{failed}").split()
    assert "record.json" in kept
    assert not {"environment.cred", "instance.env", "secrets", "port"} & set(kept)


def check_next_push(app: Project, artifact: Path) -> None:
    """The same release with its settings mended goes live, and is not sent again."""
    app.configure(**GOOD)
    again = app.push(artifact)
    assert (again["result"], again["bytes_sent"]) == ("live", 0)
    assert version(app)["release"] == again["release"]


def patched(release: Path, to: Path, old: bytes, new: bytes) -> Path:
    """A copy of the release whose emulator has the first `old` of it replaced."""
    shutil.copytree(release, to, symlinks=True)
    emulator = next(to.glob("erts-*/bin/beam.smp"))
    data = emulator.read_bytes()
    assert old in data
    emulator.write_bytes(data.replace(old, new, 1))
    return to
