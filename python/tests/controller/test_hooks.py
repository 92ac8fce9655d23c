"""The team's own programs around a push."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport import hooks
from homeport.config import Loaded, load
from homeport.errors import ExitCode, HomeportError


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "deploy.yml").write_text("app: shop\nhost: web\ndomains: [shop.test]\n")
    return load(tmp_path / "deploy.yml")


def hook(loaded: Loaded, name: str, script: str, mode: int = 0o755) -> None:
    path = loaded.root / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)


def test_hooks_run_in_order_around_a_push_and_know_what_it_is_about(loaded: Loaded) -> None:
    for name in ("pre-build", "pre-push", "post-live", "post-failure"):
        hook(loaded, name, f"echo {name} $HOMEPORT_APP $HOMEPORT_VERB $HOMEPORT_DOMAIN >> told")
    with hooks.around(loaded, "push"), (loaded.root / "told").open("a") as told:
        told.write("the push\n")
    lines = (loaded.root / "told").read_text().splitlines()
    assert lines == [
        "pre-build shop push shop.test",
        "pre-push shop push shop.test",
        "the push",
        "post-live shop push shop.test",
    ]


def test_a_failing_hook_before_stops_everything(loaded: Loaded) -> None:
    hook(loaded, "pre-push", "exit 3")
    with pytest.raises(HomeportError, match="ended with status 3") as raised, hooks.around(loaded, "push"):
        pytest.fail("the push ran")
    assert raised.value.code == ExitCode.FAILED


def test_a_failure_is_told_to_its_hook_and_stays_the_failure_it_is(loaded: Loaded) -> None:
    hook(loaded, "post-failure", "touch told; exit 1")
    with pytest.raises(ValueError, match="the push"), hooks.around(loaded, "push"):
        raise ValueError("the push")
    assert (loaded.root / "told").exists()


def test_a_failing_hook_after_does_not_undo_what_is_live(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    hook(loaded, "post-live", "exit 1")
    with hooks.around(loaded, "push"):
        pass
    assert "post-live ended with status 1" in capsys.readouterr().err


def test_a_hook_that_cannot_be_run_is_refused(loaded: Loaded) -> None:
    hook(loaded, "pre-push", "true", 0o644)
    with pytest.raises(HomeportError, match="not executable"), hooks.around(loaded, "push"):
        pytest.fail("the push ran")


def test_a_rollback_runs_its_own_hook_and_builds_nothing(loaded: Loaded) -> None:
    hook(loaded, "pre-build", "touch built")
    hook(loaded, "pre-rollback", "touch rolled")
    with hooks.around(loaded, "rollback"):
        pass
    assert (loaded.root / "rolled").exists()
    assert not (loaded.root / "built").exists()
