"""The team's own programs around a push."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeport.config.hostvars import host_vars
from homeport.config.layers import Loaded, load
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.plays import hooks
from homeport.plays.actions.hook import ActionModule, environment


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
    with hooks.run_around(loaded, "push"), (loaded.root / "told").open("a") as told:
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
    with pytest.raises(HomeportError, match="ended with status 3") as raised, hooks.run_around(loaded, "push"):
        pytest.fail("the push ran")
    assert raised.value.code == ExitCode.FAILED


def test_a_failure_is_told_to_its_hook_and_stays_the_failure_it_is(loaded: Loaded) -> None:
    hook(loaded, "post-failure", "touch told; exit 1")
    with pytest.raises(ValueError, match="the push"), hooks.run_around(loaded, "push"):
        raise ValueError("the push")
    assert (loaded.root / "told").exists()


def test_a_failing_hook_after_does_not_undo_what_is_live(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    hook(loaded, "post-live", "exit 1")
    with hooks.run_around(loaded, "push"):
        pass
    assert "post-live ended with status 1" in capsys.readouterr().err


def test_a_hook_that_cannot_be_run_is_refused(loaded: Loaded) -> None:
    hook(loaded, "pre-push", "true", 0o644)
    with pytest.raises(HomeportError, match="not executable"), hooks.run_around(loaded, "push"):
        pytest.fail("the push ran")


def test_a_rollback_runs_its_own_hook_and_builds_nothing(loaded: Loaded) -> None:
    hook(loaded, "pre-build", "touch built")
    hook(loaded, "pre-rollback", "touch rolled")
    with hooks.run_around(loaded, "rollback"):
        pass
    assert (loaded.root / "rolled").exists()
    assert not (loaded.root / "built").exists()


def told(loaded: Loaded) -> dict[str, str]:
    """The variables that a hook has written to the file `told`."""
    return dict(line.split("=", 1) for line in (loaded.root / "told").read_text().splitlines())


TELL = "env | grep '^HOMEPORT_' | sort > told"
ALWAYS = {
    "HOMEPORT_APP": "shop",
    "HOMEPORT_DESTINATION": "",
    "HOMEPORT_DOMAIN": "shop.test",
    "HOMEPORT_HOST": "web",
    "HOMEPORT_PERFORMER": "ann",
    "HOMEPORT_VERB": "push",
}
RESULT = {"release": "R2", "previous": "R1", "result": "live", "seconds": 12.345, "url": "https://shop.test/"}


@pytest.fixture
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEPORT_PERFORMER", "ann")


def test_every_hook_knows_app_place_and_person(loaded: Loaded, ann: None) -> None:
    hook(loaded, "pre-push", TELL)
    with hooks.run_around(loaded, "push"):
        assert told(loaded) == ALWAYS


def test_post_live_knows_what_is_live_now_and_what_was(loaded: Loaded, ann: None) -> None:
    hook(loaded, "post-live", TELL)
    with hooks.run_around(loaded, "push") as more:
        more |= hooks.result_variables(RESULT)
    assert told(loaded) == ALWAYS | {
        "HOMEPORT_PREVIOUS": "R1",
        "HOMEPORT_RELEASE": "R2",
        "HOMEPORT_RESULT": "live",
        "HOMEPORT_SECONDS": "12.345",
        "HOMEPORT_URL": "https://shop.test/",
    }


def test_post_failure_knows_the_error_and_the_exit_status_and_no_secret(loaded: Loaded, ann: None) -> None:
    redact.learn({"KEY": redact.SecretStr("hunter2-secret")})
    hook(loaded, "post-failure", TELL)
    with pytest.raises(HomeportError), hooks.run_around(loaded, "push"):
        raise HomeportError("no room for hunter2-secret", "", "", ExitCode.REVERTED)
    assert told(loaded) == ALWAYS | {"HOMEPORT_ERROR": "no room for [KEY]", "HOMEPORT_EXIT_CODE": "3"}


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (RuntimeError("x\0" + "y" * 200_000), 1)], ids=["Ctrl-C", "a bug"]
)
def test_post_failure_is_run_whatever_it_was(loaded: Loaded, error: BaseException, code: int) -> None:
    hook(loaded, "post-failure", "echo $HOMEPORT_EXIT_CODE > told")
    with pytest.raises(type(error)), hooks.run_around(loaded, "push"):
        raise error
    assert (loaded.root / "told").read_text() == f"{code}\n"


def test_what_a_hook_prints_is_no_result(loaded: Loaded, capfd: pytest.CaptureFixture[str]) -> None:
    hook(loaded, "pre-push", "echo hello")
    with hooks.run_around(loaded, "push"):
        pass
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_changed_variables_are_a_push_without_a_build(loaded: Loaded) -> None:
    for name in ("pre-build", "pre-push", "pre-env"):
        hook(loaded, name, f"echo {name} $HOMEPORT_VERB >> told")
    with hooks.run_around(loaded, "env"):
        assert (loaded.root / "told").read_text() == "pre-push env\n"


# ---------------------------------------------------------------------------------------------- pre-migrate

USERS = "lib/shop/priv/repo/migrations/20260101000000_add_users.exs"
BASKETS = "lib/shop/priv/repo/migrations/20260201000000_add_baskets.exs"


class Host:
    """What hostctl answers to `plan`."""

    def __init__(self, brings: list[str], applied: list[str]) -> None:
        self.answer, self.asked = {"brings": brings, "migrations": applied}, 0

    def send(self, verb: str, spec: dict[str, Any]) -> dict[str, Any]:
        assert (verb, spec["secrets"]) == ("plan", {})
        self.asked += 1
        return self.answer


def before_migrations(loaded: Loaded, host: Host, **more: Any) -> list[str]:
    """Run the playbook's task; the migrations that it found new."""
    action = object.__new__(ActionModule)
    action.hostctl = lambda _: host  # type: ignore[method-assign]
    variables = {**host_vars(loaded), **more}
    found: list[str] = action.act({"digest": "0" * 64, "git": ""}, variables)["pending"]
    return found


def test_pre_migrate_is_told_the_migrations_that_are_new(loaded: Loaded, ann: None) -> None:
    hook(loaded, "pre-migrate", TELL)
    assert before_migrations(loaded, Host([USERS, BASKETS], [USERS])) == ["20260201000000_add_baskets"]
    assert told(loaded) == ALWAYS | {"HOMEPORT_MIGRATIONS": "20260201000000_add_baskets"}


def test_without_new_migrations_pre_migrate_is_not_run(loaded: Loaded) -> None:
    hook(loaded, "pre-migrate", "touch ran")
    assert before_migrations(loaded, Host([USERS], [USERS, BASKETS])) == []
    assert not (loaded.root / "ran").exists()


def test_without_the_hook_the_host_is_not_even_asked(loaded: Loaded) -> None:
    host = Host([USERS], [])
    assert before_migrations(loaded, host) == []
    assert host.asked == 0


def test_a_failing_pre_migrate_stops_the_push_with_what_it_said(loaded: Loaded) -> None:
    hook(loaded, "pre-migrate", "echo not on a Friday; exit 7")
    with pytest.raises(HomeportError, match=r"status 7; its last lines:\nnot on a Friday$") as raised:
        before_migrations(loaded, Host([USERS], []))
    assert raised.value.code == ExitCode.FAILED
    assert raised.value.fix


def test_pre_migrate_inherits_nothing_that_homeport_and_ansible_tell_each_other_by() -> None:
    given = {"PATH": "/bin", "HOMEPORT_SECRETS": "/run/secrets.json", "ANSIBLE_CONFIG": "x"}
    assert environment(given, {"HOMEPORT_VERB": "push"}) == {"PATH": "/bin", "HOMEPORT_VERB": "push"}
