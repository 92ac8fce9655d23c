"""`deploy observer` up to the host: what it writes and prints, what it carries, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.config.layers import load
from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options
from homeport.remote import observer
from homeport.remote.hostctl import Hostctl
from homeport.remote.observer import Callbacks
from homeport.remote.session import Session
from homeport.ssh import connection

GIVEN = {"instance": "shop@127.0.0.1", "peer": "observer-0a@127.9.8.7", "cookie": "c00kie"}
ID = "20260101T000000000Z-abcdef"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    (tmp_path / "deploy.yml").write_text("app: shop\nhost: deploy.test\ndomains: [shop.test]\n")
    made = Hostctl("shop", "there", lambda command, stdin: (0, json.dumps({"id": ID}).encode(), b""))
    monkeypatch.setattr(Session, "hostctl", property(lambda _: made))
    monkeypatch.setattr(connection, "control_dir", lambda: tmp_path)
    return Session(load(tmp_path / "deploy.yml", None, tmp_path), Options())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An ssh that does what a test says."""

    def write(script: str) -> None:
        (tmp_path / "ssh").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return write


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def files_of(line: str) -> tuple[Path, Path]:
    arguments = Path(line.removeprefix("erl -args_file "))
    return arguments, arguments.with_suffix(".erl")


def test_the_command_names_a_file_and_the_cookie_is_in_another_that_this_user_alone_reads(tmp_path: Path) -> None:
    arguments, script = files_of(observer.prepare(tmp_path, GIVEN, 14370))

    assert GIVEN["cookie"] not in arguments.read_text()
    assert "-erl_epmd_port 14370" in arguments.read_text()
    assert script.read_text().startswith(
        "Live = 'shop@127.0.0.1'.\nPeer = 'observer-0a@127.9.8.7'.\nCookie = 'c00kie'.\n"
    )
    assert [stat.S_IMODE(path.stat().st_mode) for path in (arguments, script)] == [0o600, 0o600]


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_any_text_is_one_atom(text: str) -> None:
    written = observer.atom(text)
    unescaped = written[1:-1].replace("\\'", "'").replace("\\\\", "\\")
    assert (written[0], unescaped, written[-1]) == ("'", text, "'")


def test_it_carries_what_the_local_node_and_the_host_say_and_leaves_no_file(
    session: Session, host: Callable[[str], None], port: int
) -> None:
    host(f"echo '{json.dumps(GIVEN)}'; read go; exec cat")
    lines: list[str] = []
    heard: list[bytes] = []

    def node() -> None:
        with socket.create_server(("127.0.0.1", port)) as listening, listening.accept()[0] as connection:
            connection.sendall(b"shakes hands")
            heard.append(connection.recv(100))

    local = threading.Thread(target=node)

    def ready(line: str) -> None:
        lines.append(line)
        assert all(path.exists() for path in files_of(line))
        local.start()

    assert observer.hold(session, port, Callbacks(ready, lines.append)) == 0
    local.join()
    assert heard == [b"shakes hands"]
    assert lines[1] == GIVEN["instance"]
    assert not files_of(lines[0])[0].parent.exists()


def test_it_waits_for_the_node_until_it_is_interrupted(
    session: Session, host: Callable[[str], None], port: int
) -> None:
    host(f"echo '{json.dumps(GIVEN)}'; exec sleep 600")
    lines: list[str] = []

    def ready(line: str) -> None:
        lines.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    assert observer.hold(session, port, Callbacks(ready, lines.append)) == 0
    assert not files_of(lines[0])[0].exists()


@pytest.mark.parametrize("script", ["exit 5", f"echo '{json.dumps(GIVEN)}'; exit 5"])
def test_what_the_host_refuses_is_this_commands_exit_status(
    session: Session, host: Callable[[str], None], port: int, script: str
) -> None:
    host(script)
    assert observer.hold(session, port, Callbacks(lambda _: None, lambda _: None)) == 5


def test_a_connection_that_fails_is_an_error(session: Session, host: Callable[[str], None], port: int) -> None:
    host("exit 255")
    with pytest.raises(HomeportError, match="the connection to the host failed"):
        observer.hold(session, port, Callbacks(lambda _: None, lambda _: None))


def test_a_port_that_is_taken_here_is_refused_before_the_host_is_asked(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("asked"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(HomeportError, match="cannot be") as caught:
        observer.hold(session, taken.getsockname()[1], Callbacks(lambda _: None, lambda _: None))
    assert caught.value.code == ExitCode.USAGE
    assert "deploy observer" in caught.value.fix
