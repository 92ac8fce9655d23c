"""The action facts and its program, which runs on this machine as it would on a host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homeport.core.errors import HomeportError
from homeport.plays import host_facts
from homeport.plays.actions.facts import ActionModule
from hostctl.common.files import file_digest


def action(code: int, out: bytes, err: bytes = b"") -> Any:
    made: Any = object.__new__(ActionModule)
    made._connection = SimpleNamespace(host="198.51.100.9")
    made._run_as_root = lambda command, program: (code, out, err)
    return made


def test_the_program_needs_nothing_but_python() -> None:
    program = Path(host_facts.__file__).read_bytes()
    done = subprocess.run([sys.executable, "-I", "-B", "-"], input=program, capture_output=True, check=True, cwd="/")
    facts = json.loads(done.stdout)
    assert facts["distribution"] == "Debian"
    assert "dpkg" in facts["homeport"]["packages"]
    assert facts["homeport"]["accounts"]["nobody"]["home"] == "/nonexistent"
    assert {fact["password"] for fact in facts["homeport"]["accounts"].values()} <= {"*", "!", "!*", "", "set"}


def test_a_program_is_told_with_its_rights_and_its_digest_and_a_link_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text("x")
    program.chmod(0o711)
    (tmp_path / "link").symlink_to(program)
    monkeypatch.setattr(host_facts, "PROGRAMS", (f"{tmp_path}/*".lstrip("/"),))
    found = host_facts.programs()
    assert found.keys() == {str(program)}
    assert found[str(program)]["mode"] == "0711"
    assert found[str(program)]["sha256"] == file_digest(program)


def test_the_facts_have_the_names_of_ansibles_own() -> None:
    assert action(0, b'{"distribution": "Debian"}').act({}, {}) == {"ansible_facts": {"ansible_distribution": "Debian"}}


def test_a_host_without_python_is_an_error_that_says_so() -> None:
    with pytest.raises(HomeportError, match="ended with 127 and no facts: sh: not found"):
        action(127, b"", b"sh: not found\n").act({}, {})
