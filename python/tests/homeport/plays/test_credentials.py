"""The keys of the backup's bucket on their way to the host: where they come from, and what is said without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homeport.core.errors import ExitCode, HomeportError
from homeport.plays.actions.credentials import with_missing_names
from homeport.plays.actions.switch import SECRETS_VARIABLE, secret_values

REFUSED = HomeportError("the host has no keys", "backup.env", "deploy provision", ExitCode.USAGE)


def test_values_come_from_the_wrappers_file_and_then_from_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets").write_text(json.dumps({"ONE": "first", "TWO": None}))
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path / "secrets"))
    monkeypatch.setenv("THREE", "of the environment")

    assert secret_values(["ONE", "TWO", "THREE"]) == {"ONE": "first", "TWO": None, "THREE": None}


def test_without_the_wrapper_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRETS_VARIABLE, raising=False)
    monkeypatch.setenv("ONE", "of the environment")
    monkeypatch.delenv("TWO", raising=False)

    assert secret_values(["ONE", "TWO"]) == {"ONE": "of the environment", "TWO": None}


def test_a_host_that_has_no_keys_is_answered_with_the_names_that_have_no_value() -> None:
    told = with_missing_names(REFUSED, ["SHOP_KEY_ID", "SHOP_KEY"])

    assert told.what == "the host has no keys, and there is no value for SHOP_KEY_ID and SHOP_KEY"
    assert told.fix == "export SHOP_KEY_ID SHOP_KEY, or deploy secrets set NAME, then run: deploy provision"
    assert told.code == ExitCode.USAGE


@pytest.mark.parametrize("missing", [[], ["SHOP_KEY"]])
def test_any_other_refusal_stays_as_it_is(missing: list[str]) -> None:
    other = HomeportError("the disk is full", "/etc", "make room", ExitCode.FAILED)

    assert with_missing_names(other, missing) is other
    assert with_missing_names(REFUSED, []) is REFUSED
