"""A person's programs and expressions on the host: what is kept, what is refused, what is told of them."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hostworld import World
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.core import audit, schema
from hostctl.host import credentials, terminal
from hostctl.host.boundary import users
from hostctl.instance import agent, console, one_off, shell
from hostctl.release import envfile, records

UNIT = """[Service]
User=shop
MemoryMax=1000
RuntimeDirectory=homeport-shop/%i
RuntimeDirectoryMode=0700
ExecStart=/srv/shop/releases/%i/bin/shop start
"""


def asked(verb: str = "run", *words: str, expression: str = "", detach: bool = False) -> dict[str, Any]:
    return {"verb": verb, "words": list(words), "expression": expression, "detach": detach}


@pytest.fixture
def world(new_world: Any) -> World:
    made: World = new_world()
    made.push("one")
    return made


def live(world: World) -> str:
    found = world.app.live()
    assert found is not None
    return found


def test_what_was_asked_is_kept_where_root_alone_reads_it(world: World) -> None:
    told = shell.ask(world.app, asked("run", "sh", "-c", "echo secret"))

    path = world.app.state / "asked" / f"{told['id']}.json"
    assert told["release"] == live(world)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_nobody_came_for_is_swept_away(world: World) -> None:
    told = shell.ask(world.app, asked("eval", expression="1"))
    path = world.app.state / "asked" / f"{told['id']}.json"
    old = time.time() - shell.KEPT - 1
    os.utime(path, (old, old))

    shell.ask(world.app, asked("eval", expression="2"))

    assert not path.exists()


@pytest.mark.parametrize("word", ["bin/nope", "no-such-program-anywhere", "", "bin", "../../../etc/passwd"])
def test_a_program_that_is_not_there_is_refused_before_anything_is_kept(world: World, word: str) -> None:
    with pytest.raises(HostError, match="there is no program") as caught:
        shell.ask(world.app, asked("run", word))

    assert caught.value.code == USAGE
    assert not (world.app.state / "asked").exists()


def test_without_words_there_is_no_program(world: World) -> None:
    with pytest.raises(HostError, match="there is no program"):
        shell.ask(world.app, asked("exec"))


def test_where_nothing_is_live_nothing_runs_beside_it(new_world: Any) -> None:
    with pytest.raises(HostError, match="nothing of shop is live"):
        shell.ask(new_world().app, asked("run", "true"))


def test_a_program_with_a_slash_is_the_releases_own(world: World) -> None:
    program = world.app.tree(live(world)) / "bin/shop"
    program.chmod(0o755)

    assert shell.program(world.app, live(world), ["bin/shop", "eval", "$x"]) == [str(program), "eval", "$$x"]
    assert shell.program(world.app, live(world), ["sh"])[0].endswith("/bin/sh")


def test_an_id_that_was_not_given_or_is_used_up_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("20260101T000000000Z-abcdef", ""):
        assert shell.run(world.app, name, False, "ann", "here", world) == USAGE  # type: ignore[arg-type]
    assert "fix: the deploy verb again" in capsys.readouterr().err


def test_the_audit_names_the_program_and_no_argument_nor_expression(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_do", lambda *_: 7)
    for one in (asked("run", "sh", "-c", "hunter2"), asked("eval", expression="hunter2")):
        told = shell.ask(world.app, one)
        assert shell.run(world.app, told["id"], False, "ann", "here", world) == 7  # type: ignore[arg-type]

    lines = audit.read(world.app, 2)
    assert [(one["verb"], one["message"]) for one in lines] == [("run", "sh"), ("eval", "")]
    assert "hunter2" not in world.app.audit.read_text()


def test_a_program_beside_the_instance_has_its_walls_and_a_runtime_directory_of_its_own(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.systemd, "text", lambda _: UNIT)

    found = one_off.properties(world.app, "R", "run-1", tmp_path / "env", world)  # type: ignore[arg-type]

    assert "User=shop" in found
    assert "MemoryMax=1000" in found
    assert [one for one in found if one.startswith("RuntimeDirectory=")] == ["RuntimeDirectory=homeport-shop/run-1"]
    assert not [one for one in found if one.startswith("Exec")]


def test_it_has_no_port_of_the_instances_and_does_not_serve(world: World, tmp_path: Path) -> None:
    of_the_instance = records.environment(world.app, live(world))
    one_off.write_environment(world.app, live(world), tmp_path / "x.cred", "run-1", {"MORE": 'a "b"'})

    assert of_the_instance.pop("PHX_SERVER") == "true"
    values = envfile.parse(credentials.read(tmp_path / "x.cred", "environment").decode())
    assert values == {**of_the_instance, "PORT": "0", "RELEASE_TMP": "/run/homeport-shop/run-1", "MORE": 'a "b"'}


def test_a_program_beside_an_instance_of_an_older_unit_has_its_own_variables_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_before = "[Service]\nUser=shop\nEnvironmentFile=/var/lib/homeport/shop/releases/%i/env\n"
    monkeypatch.setattr(world.systemd, "text", lambda _: of_before)

    found = one_off.properties(world.app, "R", "run-1", tmp_path / "x.cred", world)  # type: ignore[arg-type]

    assert [one for one in found if "nvironment" in one] == [f"LoadCredentialEncrypted=environment:{tmp_path}/x.cred"]


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_program_whose_unit_is_gone_does_not_run(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.setattr(world.systemd, "text", lambda _: "")
    monkeypatch.setattr(terminal, "foreground", lambda *_: pytest.fail("it ran"))
    told = shell.ask(world.app, asked(verb, "sh"))

    assert shell.run(world.app, told["id"], False, "ann", "here", world) == FAILED  # type: ignore[arg-type]

    assert "does not say that it runs as shop" in capsys.readouterr().err


@pytest.mark.parametrize(("tty", "how"), [(True, "--pty"), (False, "--pipe")])
def test_a_program_has_the_persons_terminal_or_the_persons_pipes(tty: bool, how: str) -> None:
    command = terminal.command("u.service", ["/bin/x", "--pty"], ["User=shop"], tty)

    assert how in command[: command.index("--")]
    assert command[command.index("--") + 1 :] == ["/bin/x", "--pty"]


@pytest.mark.parametrize("broken", [{"verb": "sh"}, {"words": ["a\0b"]}, {"words": "sh"}, {"more": 1}, {"detach": 1}])
def test_a_spec_that_is_not_exactly_right_is_refused(broken: dict[str, Any]) -> None:
    assert schema.mistakes(schema.SHELL, asked("run", "sh")) == []
    assert schema.mistakes(schema.SHELL, asked("run", "sh") | broken)


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_words_that_a_program_can_have_pass(words: list[str]) -> None:
    wrong = any("\0" in word for word in words)
    assert bool(schema.mistakes(schema.SHELL, asked("run", *words))) == wrong


def test_a_consoles_node_is_on_the_loopback_network_and_its_cookie_not_in_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases/start_erl.data").write_text("15.2.7 0.1.0")
    address = console.loopback()

    argv = console.command(tmp_path, f"console@{address}", address, Path("/run/x"))

    assert address.startswith("127.")
    assert all(0 < int(part) < 255 for part in address.split("."))
    assert "{" + address.replace(".", ",") + "}" in argv
    assert "-setcookie" not in argv
    assert argv[0] == str(tmp_path / "erts-15.2.7/bin/erl")


def test_the_home_of_a_console_that_was_killed_is_removed_and_no_other(world: World) -> None:
    homes = world.app.layout.root / f"run/homeport-{world.app.name}"
    old = time.time() - console.FRESH - 1
    for name in ("run-killed", "run-open", "run-fresh", live(world)):
        (homes / name).mkdir(parents=True, exist_ok=True)
        if name != "run-fresh":
            os.utime(homes / name, (old, old))
    world.running.add(world.app.helper_unit("run-open"))

    console.sweep(world.app, world)  # type: ignore[arg-type]

    assert sorted(path.name for path in homes.iterdir()) == sorted(["run-open", "run-fresh", live(world)])


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_consoles_home_is_the_users_and_what_systemd_reads_as_root_is_not_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody, seen = users.find("nobody"), {}
    told = {"find": lambda *_: agent.Instance(world.app, live(world), nobody, "/x"), "node": lambda _: "shop@127.0.0.1"}
    for name, stand_in in told.items():
        monkeypatch.setattr(agent, name, stand_in)
    monkeypatch.setattr(agent, "start_connecting", lambda *_: users.start_as(nobody, lambda: True))
    monkeypatch.setattr(console, "command", lambda *_: ["erl"])
    home = agent.folder(world.app) / "run-1"
    home.parent.mkdir(parents=True)

    def foreground(_: str, __: list[str], properties: list[str], *___: object) -> int:
        seen["owners"] = {path.name: path.stat().st_uid for path in [home, *home.iterdir()]}
        seen["read by root"] = [one.rpartition(":")[2] for one in properties if one.startswith("LoadCredential")]
        return 7

    monkeypatch.setattr(terminal, "foreground", foreground)
    path = world.app.state / "asked" / "1.cred"
    path.parent.mkdir(mode=0o700)

    assert console.run(world.app, live(world), "1", path, True, world) == 7  # type: ignore[arg-type]

    assert seen["owners"] == dict.fromkeys(["run-1", ".erlang.cookie", "console.erl"], nobody.uid)
    assert seen["read by root"] == [str(path)]
    assert not path.exists()
    assert not home.exists()
