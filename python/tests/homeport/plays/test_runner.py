"""What is printed of times, releases, plans and playbook failures."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.core.errors import ExitCode
from homeport.core.provision_stamp import NeedsProvisionError
from homeport.core.timestamps import dated
from homeport.deployment import transition
from homeport.plays.runner import Played, _note
from homeport.verbs import releases, status


def test_times_are_readable_wherever_they_stand_in_a_document() -> None:
    found = dated({"live": {"since": 0}, "history": [{"at": 1795245043.8}], "size": 12, "locked": True})
    assert found["live"]["since"] == "1970-01-01T00:00:00Z"
    assert found["history"][0]["at"] == "2026-11-21T07:10:43Z"
    assert (found["size"], found["locked"]) == (12, True)


def test_the_table_of_releases_lines_up() -> None:
    rows = [
        {
            "release": "r1",
            "state": "live",
            "git": {"sha": "abcdef0123", "dirty": True},
            "created": "now",
            "size": 1000,
            "who": "ann",
        },
        {"release": "r2", "state": "superseded", "git": None, "created": "then", "size": None, "who": "b"},
    ]
    lines = releases.table(rows)
    assert lines[1].split() == ["r1", "live", "abcdef0+", "now", "1.0", "kB", "ann"]
    assert lines[1].index("abcdef0+") == lines[2].index("-") == lines[0].index("GIT")


def test_no_releases_says_what_to_do() -> None:
    assert releases.table([]) == ["no releases yet; run deploy push"]


@pytest.mark.parametrize("live", [None, {"release": "r1", "since": "now", "port": 20000}])
def test_the_status_is_told_before_and_after_the_first_push(live: dict[str, Any] | None) -> None:
    found = {
        "app": "shop", "url": "https://shop.test/", "host": "web", "live": live, "certificate": None, "lock": None,
        "health": {"ok": bool(live), "status": 200}, "disk": {"free": 5e9, "total": 1e10},
    }  # fmt: skip
    lines = status.lines(found)
    assert ("nothing yet" in lines[1]) is (live is None)
    assert ("NOT HEALTHY" in lines[2]) is (live is None)


def test_a_plan_that_changes_nothing_is_one_line() -> None:
    assert len(transition.plan_lines({"unchanged": True, "previous": "r1"})) == 1


def test_a_plan_names_what_would_change() -> None:
    plan = {"unchanged": False, "release": "r2", "previous": "r1", "bytes": 2138, "pending": ["migrations/1_a.exs"],
            "changed_keys": ["env.clear.A"], "restart": True}  # fmt: skip
    text = "\n".join(transition.plan_lines(plan))
    for part in ("r2, in place of r1", "2.1 kB", "1_a.exs", "env.clear.A", "stops before"):
        assert part in text


def failed(result: dict[str, Any]) -> Played:
    played = Played()
    data = {"task": "Install Caddy", "role": "homeport.deploy.edge", "host": "web", "res": result}
    _note({"event": "runner_on_failed", "event_data": data}, played, lambda event: None)
    return played


def test_an_error_of_ours_keeps_its_parts_through_ansible() -> None:
    error = failed({"homeport_error": {"what": "w", "where": "x", "fix": "f", "code": 5}}).error
    assert error is not None
    assert (error.what, error.where, error.fix, error.code) == ("w", "x", "f", 5)


def test_an_error_of_a_module_says_which_task_it_was() -> None:
    error = failed({"msg": "No space left", "stderr": "cp: write error"}).error
    assert error is not None
    assert "No space left" in error.what
    assert "cp: write error" in error.what
    assert error.where == "web: edge / Install Caddy"
    assert error.code == ExitCode.FAILED


def test_a_result_is_found_by_its_action_whatever_the_task_is_called() -> None:
    played = Played()
    data = {"task": "Any name", "task_action": "homeport.deploy.switch", "res": {"result": "live", "changed": True}}
    _note({"event": "runner_on_ok", "event_data": data}, played, lambda event: None)
    assert played.results == {"switch": {"result": "live", "changed": True}}
    assert played.changed == 1


def test_an_error_keeps_the_reason_by_which_a_push_provisions_first() -> None:
    explained = NeedsProvisionError("web").as_dict()
    error = failed({"homeport_error": explained, "homeport_reason": NeedsProvisionError.reason}).error
    assert error is not None
    assert error.reason == NeedsProvisionError.reason


def test_the_first_error_counts() -> None:
    played = failed({"msg": "first"})
    _note(
        {"event": "runner_on_failed", "event_data": {"task": "t", "res": {"msg": "second"}}}, played, lambda event: None
    )
    assert played.error is not None
    assert played.error.what == "first"
