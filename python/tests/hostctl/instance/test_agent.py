"""The agent in a real Erlang: what is asked over its socket is answered, and a node with it listens nowhere."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostworld import World
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import HostError
from hostctl.core.paths import Layout
from hostctl.host.boundary import peers, users
from hostctl.host.boundary.users import User
from hostctl.instance import agent
from hostctl.instance.agent import Instance
from hostctl.release import envfile

RELEASE = "20260101T000000Z-aaaaaaa"
NODE = "shop@127.0.0.1"
GROUP = f"/system.slice/shop@{RELEASE}.service"


@pytest.fixture(scope="module")
def app() -> Iterator[Instance]:
    """An app's one instance, which is an Elixir that does nothing and runs as whoever runs the tests."""
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="agent-"))  # short: a socket's path has 107 bytes at most
    app = Layout(root).app("shop")
    runtime = agent.folder(app) / RELEASE
    runtime.mkdir(parents=True)
    (root / "agent.erl").write_text(agent.source())
    there = f"/var/lib/homeport/shop/releases/{RELEASE}/agent.erl"
    flags = envfile.complete("shop", RELEASE, "", "", {})["ERL_ZFLAGS"].replace(there, str(root / "agent.erl"))
    environment = {"ERL_ZFLAGS": flags, "RELEASE_TMP": str(runtime), "RELEASE_COMMAND": "start", "HOME": str(root)}
    words = ["elixir", "--name", NODE, "--cookie", "shown-to-all", "--no-halt", "-e", "nil"]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(words, env={**os.environ, **environment}, stdin=subprocess.DEVNULL) as instance,
    ):
        try:
            _until(runtime / "agent")
            patch.setattr(peers, "in_group", lambda pid, group: (pid, group) == (instance.pid, GROUP))
            yield Instance(app, RELEASE, User("me", os.getuid(), os.getgid(), ()), GROUP)
        finally:
            instance.kill()
            shutil.rmtree(root)


def _until(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rpc(app: Instance, expression: str) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        handles = [out.fileno(), err.fileno()]
        code = users.run_as(app.user, lambda: agent._rpc(app, expression, out, err), keep=handles)
        for file in (out, err):
            file.seek(0)
        return code, out.read().decode(), err.read().decode()


def test_what_an_expression_prints_is_shown_and_what_it_is_worth_is_not(app: Instance) -> None:
    assert rpc(app, 'IO.puts("grüß\n" <> "dich"); IO.inspect({1, "x"}); 42') == (0, 'grüß\ndich\n{1, "x"}\n', "")


def test_what_prints_without_saying_the_encoding_is_shown_too(app: Instance) -> None:
    assert rpc(app, ':io.format("~p~n", [:a]); :io.put_chars("b")')[1] == "a\nb"


@pytest.mark.parametrize(
    ("expression", "says"),
    [('raise "no"', "(RuntimeError) no"), ("exit(:boom)", "boom"), ("throw(:x)", ":x"), ("1 +", "TokenMissing")],
)
def test_an_expression_that_fails_gives_its_error_and_status_1(app: Instance, expression: str, says: str) -> None:
    code, out, err = rpc(app, f'IO.write("before")\n{expression}' if expression != "1 +" else expression)

    assert code == 1
    assert says in err
    assert out in ("before", "")


def test_one_that_is_killed_fails_as_well(app: Instance) -> None:
    code, _, err = rpc(app, "Process.exit(self(), :kill)")
    assert (code, "killed" in err) == (1, True)


def test_nothing_can_be_read_by_an_expression(app: Instance) -> None:
    assert rpc(app, 'IO.inspect(IO.gets("? ")); IO.inspect(IO.read(:line))')[1] == ":eof\n:eof\n"


def test_an_expression_ends_when_nobody_waits_for_it(app: Instance) -> None:
    waiting = 'Process.register(self(), :waiting); IO.puts("now"); Process.sleep(:infinity)'
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.folder(app.app) / agent.name(RELEASE)))
        client.sendall(agent.packet(f"rpc {waiting}"))
        assert next(agent.packets(client.makefile("rb"))) == ("o", b"now\n")
        assert rpc(app, "IO.inspect(is_pid(Process.whereis(:waiting)))")[1] == "true\n"
        client.shutdown(socket.SHUT_RDWR)

    deadline = time.monotonic() + 30
    while rpc(app, "IO.inspect(Process.whereis(:waiting))")[1] != "nil\n":
        assert time.monotonic() < deadline


def test_the_node_has_its_name_and_no_way_in_from_the_network(app: Instance) -> None:
    assert agent.node(app) == NODE
    listening = ":erlang.ports() |> Enum.map(&:inet.sockname/1) |> Enum.filter(&match?({:ok, {{_, _, _, _}, _}}, &1))"
    assert rpc(app, f"IO.inspect({listening})")[1] == "[]\n"


def test_a_peer_that_is_not_there_is_not_connected_to(app: Instance) -> None:
    assert agent.start_connecting(app, "console@127.77.77.77", "c00kie", 0).result() is False


def test_an_instance_without_an_agent_is_told_apart(app: Instance) -> None:
    with pytest.raises(HostError, match="cannot be asked") as caught:
        agent.node(app._replace(release="20260101T000000Z-bbbbbbb"))
    assert "deploy push" in caught.value.fix


def test_an_instance_that_does_not_run_is_not_asked(world: World) -> None:
    with pytest.raises(HostError, match="it does not run"):
        agent.find(world.app, RELEASE, world)  # type: ignore[arg-type]


@contextlib.contextmanager
def in_its_place(app: Instance, put: Callable[[Path], None]) -> Iterator[None]:
    """Something else is where the agent's socket was."""
    path = agent.folder(app.app) / agent.name(RELEASE)
    path.rename(path.with_name("moved"))
    put(path)
    try:
        yield
    finally:
        path.unlink()
        path.with_name("moved").rename(path)


def test_a_link_to_another_socket_is_not_followed(app: Instance, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "private"))
        other.listen()
        other.settimeout(0)
        with in_its_place(app, lambda path: path.symlink_to(tmp_path / "private")):
            with pytest.raises(HostError, match="cannot be asked"):
                rpc(app, "\0AUTH EXTERNAL 30\r\n")
            with pytest.raises(BlockingIOError):
                other.accept()


def test_a_link_in_the_place_of_the_directory_is_not_followed(app: Instance, tmp_path: Path) -> None:
    place = agent.folder(app.app) / "20260101T000000Z-ccccccc"
    place.symlink_to(RELEASE)
    try:
        with pytest.raises(HostError, match="cannot be asked"):
            agent.node(app._replace(release=place.name))
    finally:
        place.unlink()


def test_a_socket_of_another_unit_is_not_asked(app: Instance) -> None:
    with pytest.raises(HostError, match="not the instance's"):
        agent.node(app._replace(group="/system.slice/blog@1.service"))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_the_agent_answers_to_nobody_but_the_user_of_its_directory(app: Instance) -> None:
    directory = agent.folder(app.app) / RELEASE
    os.chown(directory, 65534, 65534)
    try:
        with pytest.raises(HostError, match="the instance ended"):
            rpc(app, "IO.puts(1)")
    finally:
        os.chown(directory, 0, 0)


@given(st.lists(st.tuples(st.sampled_from("oes"), st.binary(max_size=50))))
def test_packets_are_read_as_they_were_sent(sent: list[tuple[str, bytes]]) -> None:
    stream = b"".join(struct.pack(">I", 1 + len(content)) + kind.encode() + content for kind, content in sent)
    assert list(agent.packets(io.BytesIO(stream))) == sent
