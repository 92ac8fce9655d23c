"""`deploy tunnel`, `deploy db tunnel` and `deploy db upgrade`, up to the host: what is refused, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.config.layers import load
from homeport.core.errors import ExitCode, HomeportError
from homeport.deployment import transition
from homeport.options.options import Options
from homeport.remote import session as sessions
from homeport.remote import tunnel
from homeport.remote.hostctl import Hostctl
from homeport.remote.session import Session
from homeport.verbs import db

POSTGRES = "database: {engine: postgres}\nbackup: {bucket: shop-backups}\n"
OTHERS = {
    "sqlite": "database: {engine: sqlite}\nbackup: {bucket: shop-backups}\n",
    "external": "database: {engine: external}\nenv: {secret: [DATABASE_URL]}\n",
    "none": "",
}

Begun = Callable[[str], Session]


@pytest.fixture
def begun(tmp_path: Path) -> Begun:
    """The session of an app with these further lines in its deploy.yml."""

    def begin(more: str) -> Session:
        text = f"app: my-shop\nhost: deploy.test\ndomains: [shop.test]\n{more}"
        (tmp_path / "deploy.yml").write_text(text)
        return Session(load(tmp_path / "deploy.yml", None, tmp_path), Options(config=tmp_path / "deploy.yml"))

    return begin


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An ssh that does what a test says; its process id and its arguments are written down."""

    def write(script: str) -> Path:
        told = tmp_path / "told"
        (tmp_path / "ssh").write_text(f'#!/bin/sh\nprintf "%s\\n" $$ "$@" > {told}\n{script}\n')
        (tmp_path / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return told

    return write


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind((tunnel.LOCAL, 0))
        return int(free.getsockname()[1])


def test_what_attaches_is_told_and_the_server_is_reached_by_its_socket(begun: Begun) -> None:
    session = begun(POSTGRES)

    assert tunnel.lines(session, 15432) == [
        'psql "host=127.0.0.1 port=15432 user=my-shop dbname=my_shop"',
        "postgres://my-shop@127.0.0.1:15432/my_shop",
    ]
    words = tunnel.argv(session, tunnel.postgres(session, 15432))
    assert "127.0.0.1:15432:/run/homeport-my-shop-postgres/.s.PGSQL.5432" in words
    # over a shared connection the way would stay open after this command
    assert words.index("ControlPath=none") < next(at for at, word in enumerate(words) if word == "ControlMaster=auto")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_open_until_it_is_interrupted_and_leaves_nothing_running(
    begun: Begun, ssh: Callable[[str], Path], port: int, number: int
) -> None:
    told, opened = ssh("echo open\nexec sleep 600"), []
    before = signal.getsignal(signal.SIGTERM)

    def interrupt() -> None:
        opened.append(True)
        os.kill(os.getpid(), number)

    tunnel.hold(begun(POSTGRES), tunnel.loopback(4000, port), interrupt)

    assert opened == [True]
    assert not Path(f"/proc/{told.read_text().split()[0]}").exists()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("script", "what", "code"),
    [
        ("echo 'bind: Address already in use' >&2; exit 255", "cannot be used: address already in use", ExitCode.USAGE),
        ("echo 'me@host: Permission denied (publickey).' >&2; exit 255", "refused the login", ExitCode.FAILED),
        ("echo open; exit 255", "the connection to the host ended", ExitCode.FAILED),
        ("exit 255", "cannot reach the host", ExitCode.FAILED),
    ],
)
def test_a_way_that_cannot_be_opened_or_ends_is_an_error(
    begun: Begun, ssh: Callable[[str], Path], port: int, script: str, what: str, code: int
) -> None:
    ssh(script)

    with pytest.raises(HomeportError, match=what) as caught:
        tunnel.hold(begun(POSTGRES), tunnel.loopback(4000, port), lambda: None)

    assert caught.value.code == code


def test_a_port_that_is_taken_here_is_refused_before_the_host_is_asked(
    begun: Begun, ssh: Callable[[str], Path]
) -> None:
    told = ssh("exit 1")
    with socket.socket() as taken:
        taken.bind((tunnel.LOCAL, 0))
        taken.listen()
        with pytest.raises(HomeportError, match="cannot be used") as caught:
            tunnel.hold(begun(POSTGRES), tunnel.loopback(taken.getsockname()[1], None), lambda: None)

    assert caught.value.code == ExitCode.USAGE
    assert not told.exists()


@pytest.mark.parametrize("engine", OTHERS)
def test_another_database_has_nothing_to_connect_to(begun: Begun, engine: str) -> None:
    with pytest.raises(HomeportError, match="has no PostgreSQL on its host") as caught:
        tunnel.postgres(begun(OTHERS[engine]), 15432)

    assert caught.value.code == ExitCode.USAGE


# the instance, and any port


def live_at(monkeypatch: pytest.MonkeyPatch, live: dict[str, Any] | None) -> None:
    def status(command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        return 0, json.dumps({"live": live}).encode(), b""

    monkeypatch.setattr(Session, "hostctl", property(lambda _: Hostctl("my-shop", "host", status)))


@pytest.mark.parametrize(("local", "here"), [(None, 21007), (4040, 4040)])
def test_the_live_instance_is_reached_at_its_own_port_or_at_another_here(
    begun: Begun, monkeypatch: pytest.MonkeyPatch, local: int | None, here: int
) -> None:
    live_at(monkeypatch, {"release": "20260101T000000Z-aaaaaaa", "port": 21007})

    session = begun("")
    words = tunnel.argv(session, tunnel.instance(session, local))

    assert words[words.index("-L") + 1] == f"127.0.0.1:{here}:127.0.0.1:21007"


def test_a_port_that_another_process_has_taken_is_not_forwarded(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    live_at(monkeypatch, {"instance": "my-shop@1.service", "port": 21007, "listener": "foreign"})
    with pytest.raises(HomeportError, match="not of my-shop@1"):
        tunnel.instance(begun(""), None)


def test_where_nothing_is_live_no_way_leads_to_it(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    live_at(monkeypatch, None)
    with pytest.raises(HomeportError, match="nothing of my-shop is live"):
        tunnel.instance(begun(""), None)


# the upgrade


class Asked:
    """A host that tells what an upgrade would do, and begins it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, session: Session, plan: dict[str, Any]) -> None:
        self.asked: list[list[str]] = []
        self.plan = plan
        monkeypatch.setattr(sessions, "begin", lambda options: session)
        monkeypatch.setattr(Session, "hostctl", property(lambda _: Hostctl("my-shop", "host", self.run)))
        monkeypatch.setattr(transition, "follow", lambda session, name, as_json: self.asked.append(["follow", name]))

    def run(self, command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        self.asked.append(command[4:])
        told = self.plan if "--plan" in command else {"transition": "t1"}
        return 0, json.dumps(told).encode(), b""


PLAN = {"from": "15", "to": "17", "bytes": 31_000_000}


def test_an_upgrade_is_agreed_to_and_followed(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Asked(monkeypatch, begun(POSTGRES), PLAN)

    found = CliRunner().invoke(db.command, ["upgrade", "--yes"])

    assert found.exit_code == 0, found.output
    assert host.asked[0] == ["db", "upgrade", "--plan"]
    assert host.asked[1][:3] == ["db", "upgrade", "--who"]
    assert host.asked[2] == ["follow", "t1"]


def test_nothing_is_upgraded_where_nobody_can_agree(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Asked(monkeypatch, begun(POSTGRES), PLAN)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    found = CliRunner().invoke(db.command, ["upgrade"])

    assert isinstance(found.exception, HomeportError)
    assert "moves from PostgreSQL 15 to 17" in found.exception.what
    assert len(host.asked) == 1


# a dump


def test_a_dump_is_named_after_its_form(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(
        "homeport.remote.database_transfer.fetch",
        lambda session, words, target, *_, **__: names.append(target.suffix) or 7,
    )
    for more, args in ((POSTGRES, []), (POSTGRES, ["--sql"]), (OTHERS["sqlite"], []), (OTHERS["external"], [])):
        monkeypatch.setattr(sessions, "begin", lambda options, more=more: begun(more))
        CliRunner().invoke(db.command, ["dump", *args])

    assert names == [".dump", ".sql", ".db", ".dump"]
