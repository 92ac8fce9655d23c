"""What a playbook's events become: an error of three parts, results by action."""

from __future__ import annotations

from typing import Any

from homeport.core.errors import ExitCode
from homeport.core.provision_stamp import NeedsProvisionError
from homeport.plays.runner import PlayResult, _handle_event


def failed(result: dict[str, Any]) -> PlayResult:
    played = PlayResult()
    data = {"task": "Install Caddy", "role": "homeport.deploy.edge", "host": "web", "res": result}
    _handle_event({"event": "runner_on_failed", "event_data": data}, played, lambda event: None)
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
    played = PlayResult()
    data = {"task": "Any name", "task_action": "homeport.deploy.switch", "res": {"result": "live", "changed": True}}
    _handle_event({"event": "runner_on_ok", "event_data": data}, played, lambda event: None)
    assert played.results == {"switch": {"result": "live", "changed": True}}
    assert played.changed == 1


def test_an_error_keeps_the_reason_by_which_a_push_provisions_first() -> None:
    explained = NeedsProvisionError("web").as_dict()
    error = failed({"homeport_error": explained, "homeport_reason": NeedsProvisionError.reason}).error
    assert error is not None
    assert error.reason == NeedsProvisionError.reason


def test_the_first_error_counts() -> None:
    played = failed({"msg": "first"})
    _handle_event(
        {"event": "runner_on_failed", "event_data": {"task": "t", "res": {"msg": "second"}}}, played, lambda event: None
    )
    assert played.error is not None
    assert played.error.what == "first"
