"""`deploy run`, `rpc`, `logs` and their like, up to the host: what is asked of it, and what is refused before."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from homeport.cli import deploy
from homeport.remote import interactive
from homeport.remote.hostctl import Hostctl
from homeport.remote.session import Session
from homeport.ssh import connection
from homeport.verbs import logs
from homeport.verbs.open import address
from hostctl.core import schema

DEPLOY_YML = "app: shop\nhost: 198.51.100.7\ndomains: [shop.test]\nacme: {email: ops@shop.test}\n"
ID = "20260101T000000000Z-abcdef"


class Host:
    """Notes what is sent, and what is run; answers as hostctl does."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.ran: list[str] = []

    def call(self, command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        self.sent.append(json.loads(stdin))
        return 0, json.dumps({"id": ID}).encode(), b""

    def run(self, command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        self.ran = list(command)
        return subprocess.CompletedProcess(command, 7)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    made = Host()
    (tmp_path / "deploy.yml").write_text(DEPLOY_YML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, "hostctl", property(lambda _: Hostctl("shop", "there", made.call)))
    monkeypatch.setattr(subprocess, "run", made.run)
    monkeypatch.setattr(connection, "control_dir", lambda: tmp_path)
    return made


def ran(*args: str, stdin: str = "") -> Any:
    return CliRunner().invoke(deploy, args, input=stdin)


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        (["run", "bin/x", "--detach", "-n"], ("run", ["bin/x", "--detach", "-n"], "", False)),
        (["run", "--detach", "bin/x"], ("run", ["bin/x"], "", True)),
        (["exec", "ls", "-l", "a b"], ("exec", ["ls", "-l", "a b"], "", False)),
        (["eval", "1 + 1"], ("eval", [], "1 + 1", False)),
        (["rpc", "-"], ("rpc", [], "from(stdin)", False)),
    ],
)
def test_what_is_to_run_is_sent_and_is_in_no_argument(host: Host, args: list[str], asked: tuple[Any, ...]) -> None:
    done = ran(*args, stdin="from(stdin)")

    assert done.exit_code == 7  # the program's own
    assert host.sent == [dict(zip(("verb", "words", "expression", "detach"), asked, strict=True))]
    assert schema.mistakes(schema.SHELL, host.sent[0]) == []
    words = host.ran[host.ran.index("shell") :]
    assert words[:4] == ["shell", "run", "--id", ID]
    assert "--terminal" not in words


@pytest.mark.parametrize("args", [["rpc", " "], ["eval", "-"], ["run"], ["exec"], ["rpc"]])
def test_nothing_to_run_is_refused_before_the_host_is_asked(host: Host, args: list[str]) -> None:
    done = ran(*args, stdin=" \n")

    assert done.exit_code == 2
    assert host.sent == []


def test_a_connection_that_failed_is_told_from_a_program_that_did(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 255))
    done = ran("run", "true")
    assert "the connection to the host failed" in str(done.exception)


@pytest.mark.parametrize(("given_", "ago"), [("10m", 600), ("2h", 7200), ("3d", 259_200), ("90s", 90)])
def test_a_time_may_be_how_long_ago_it_was(given_: str, ago: float) -> None:
    found = logs.a_time(None, None, given_)  # type: ignore[arg-type]
    assert found is not None
    assert abs(time.time() - ago - found) < 5


def test_a_time_may_name_its_zone_or_else_is_of_this_machine() -> None:
    assert logs.a_time(None, None, "2026-11-21T04:00:00Z") == 1795233600.0  # type: ignore[arg-type]
    assert logs.a_time(None, None, "2026-11-21 04:00") is not None  # type: ignore[arg-type]


@given(st.text(max_size=12))
def test_anything_else_is_no_time(text: str) -> None:
    try:
        found = logs.a_time(None, None, text)  # type: ignore[arg-type]
    except click.BadParameter:
        return
    assert isinstance(found, float)


@pytest.mark.parametrize(
    "args", [["--grep", "("], ["--grep", "a\nb"], ["--since", "x"], ["edge", "--failed"], ["nobody"], ["-n", "0"]]
)
def test_what_cannot_be_meant_of_logs_is_refused(host: Host, args: list[str]) -> None:
    assert ran("logs", *args).exit_code == 2
    assert host.ran == []


def test_logs_pass_on_what_was_asked_word_by_word(host: Host) -> None:
    ran("logs", "backup", "-n", "5", "--grep", "a b; c", "--json")

    words = host.ran[host.ran.index("logs") :]
    assert words == ["logs", "-n", "5", "--json", "'--grep=a b; c'", "backup"]


def test_a_console_needs_a_terminal(host: Host) -> None:
    done = ran("console")
    assert getattr(done.exception, "code", None) == 2
    assert host.sent == []


@given(st.text(max_size=20))
def test_whatever_the_path_the_address_is_the_apps(path: str) -> None:
    try:
        found = address("shop.example.com", path)
    except click.UsageError:
        return
    assert found.startswith("https://shop.example.com/")


def test_the_words_that_a_person_typed_are_the_programs() -> None:
    assert interactive.AS_TYPED["allow_interspersed_args"] is False
