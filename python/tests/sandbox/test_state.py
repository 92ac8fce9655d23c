from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from homeport.core.errors import HomeportError
from homeport.sandbox import durable, state
from homeport.sandbox.model import check_name
from homeport.sandbox.state import State

MINE = State("a", "trixie", 3, 0, True, os.getpid(), state.start_time(os.getpid()))


@pytest.fixture(autouse=True)
def sandboxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "SANDBOXES", tmp_path / "sandboxes")
    return tmp_path / "sandboxes"


def test_a_state_is_read_back_as_kept() -> None:
    state.save(MINE)
    assert state.load("a") == MINE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "a"}', '{"unknown": 1}'])
def test_a_state_that_cannot_be_understood_counts_as_none(sandboxes: Path, text: str) -> None:
    (sandboxes / "a").mkdir(parents=True)
    (sandboxes / "a/state.json").write_text(text)
    assert state.load("a") is None
    assert state.names() == ["a"]


def test_a_sandbox_is_up_while_its_supervisor_runs() -> None:
    assert state.to_sandbox(MINE).state == "up"


def test_a_sandbox_that_is_still_being_made_is_not_up() -> None:
    assert state.to_sandbox(replace(MINE, ready=False)).state == "down"


def test_a_process_number_that_is_anothers_by_now_is_no_supervisor() -> None:
    assert not state.is_supervised(replace(MINE, started=MINE.started + 1))


def test_a_supervisor_that_ended_is_not_running() -> None:
    process = subprocess.Popen(["sleep", "60"])
    known = replace(MINE, pid=process.pid, started=state.start_time(process.pid))
    assert state.is_supervised(known)
    process.kill()
    process.wait()
    assert not state.is_supervised(known)


def test_a_state_without_a_supervisor_is_not_running() -> None:
    assert not state.is_supervised(replace(MINE, pid=0, started=0))


def test_the_slots_of_others_are_taken_and_ones_own_is_not() -> None:
    state.save(MINE)
    state.save(replace(MINE, name="b", slot=5))
    assert state.slots_taken(besides="a") == {5}


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    durable.write(path, "old", 0o644)
    durable.write(path, "new", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.glob("secret*")] == ["secret"]


@pytest.mark.parametrize("name", ["", "A", "1a", "a/b", "..", "a b", "a" * 32, "a\n"])
def test_a_name_that_could_leave_its_directory_is_refused(name: str) -> None:
    with pytest.raises(HomeportError, match="cannot be the name"):
        check_name(name)


def test_a_sandbox_tells_other_programs_what_they_need() -> None:
    facts = state.to_sandbox(MINE).as_dict()
    assert set(facts) == {"name", "suite", "state", "address", "services_address", "ssh", "s3", "acme"}
    assert set(facts["ssh"]) == {"user", "port", "key", "known_hosts"}
    assert set(facts["s3"]) == {"endpoint", "tls_endpoint", "ca", "region", "bucket", "credentials"}
    assert set(facts["acme"]) == {"directory", "ca", "root"}
