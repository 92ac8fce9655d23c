"""`deploy env push` on the laptop: what it asks for, and what a person reads."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from homeport.core.errors import HomeportError
from homeport.deployment import transition
from homeport.plays.actions.switch import live_release
from homeport.screen import env_changes
from homeport.verbs import env, releases

CHANGES = {"added": ["MAIL_KEY"], "changed": ["STRIPE_KEY", "A"], "removed": ["GONE"]}


def test_changes_are_told_by_name_in_order() -> None:
    assert env_changes.summary(CHANGES) == "A changed, GONE removed, MAIL_KEY added, STRIPE_KEY changed"


@pytest.mark.parametrize("nothing", [None, {}, {"added": [], "changed": [], "removed": []}])
def test_where_nothing_changed_or_it_is_not_known_nothing_is_told(nothing: Any) -> None:
    assert env_changes.summary(nothing) == ""


def test_releases_name_what_changed_and_those_of_an_older_host_do_not() -> None:
    one = {"release": "r1", "state": "live", "git": None, "created": "now", "size": 5, "who": "ann"}
    lines = releases.table([{**one, "env_changes": CHANGES}, one])
    assert lines[0].endswith("WHO  ENV")
    assert lines[1].endswith("MAIL_KEY added, STRIPE_KEY changed")
    assert lines[2].endswith("ann")


def test_the_last_line_names_what_changed() -> None:
    result = {"result": "live", "release": "r2", "url": "https://x/", "seconds": 1, "kept": None, "bytes_sent": 0}
    assert transition._last_line("env", {**result, "env_changes": CHANGES}).endswith("STRIPE_KEY changed")
    assert "env:" not in transition._last_line("env", {**result, "env_changes": None})


def test_a_plan_names_the_same_code_and_what_differs() -> None:
    planned = {"unchanged": False, "release": "r2", "previous": "r1", "changed_keys": ["env.secret.KEY"]}
    lines = transition.environment_lines({**planned, "restart": False})
    assert lines == [
        "release   r2, the same code as r1",
        "settings  env.secret.KEY",
        "switch    without a pause",
    ]
    assert transition.environment_lines({"unchanged": True, "previous": "r1"}) == [
        "r1 is live already, with the same settings: env push would change nothing"
    ]


def test_the_code_is_that_of_what_is_live() -> None:
    assert live_release({"digest": "d", "git": {"sha": "1"}}, "host") == ("d", {"sha": "1"})


@pytest.mark.parametrize("nothing", [None, {}, ""])
def test_where_nothing_is_live_a_push_is_asked_for(nothing: Any) -> None:
    with pytest.raises(HomeportError) as refused:
        live_release(nothing, "deploy@host")
    assert (refused.value.where, refused.value.fix) == ("deploy@host", "deploy push")


@pytest.mark.parametrize("words", [["push", "NAME"], ["push", "--lock-wait", "-1"], ["pull"], ["push", "--value", "x"]])
def test_a_wrong_command_line_is_refused(words: list[str]) -> None:
    assert CliRunner().invoke(env.command, words).exit_code == 2
