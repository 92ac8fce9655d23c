"""The agent in a real Erlang: what is asked over its socket is answered, and a node with it listens nowhere."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import HostError
from hostctl.core.paths import App, Layout
from hostctl.instance import agent
from hostctl.release import envfile

RELEASE = "20260101T000000Z-aaaaaaa"
NODE = "shop@127.0.0.1"


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    """An app with one instance, which is an Elixir that does nothing."""
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="agent-"))  # short: a socket's path has 107 bytes at most
    app = Layout(root).app("shop")
    runtime = agent.address(app, RELEASE).parent
    runtime.mkdir(parents=True)
    (root / "agent.erl").write_text(agent.source())
    there = f"/var/lib/homeport/shop/releases/{RELEASE}/agent.erl"
    flags = envfile.complete("shop", RELEASE, "", "", {})["ERL_ZFLAGS"].replace(there, str(root / "agent.erl"))
    environment = {"ERL_ZFLAGS": flags, "RELEASE_TMP": str(runtime), "RELEASE_COMMAND": "start", "HOME": str(root)}
    words = ["elixir", "--name", NODE, "--cookie", "shown-to-all", "--no-halt", "-e", "nil"]
    with subprocess.Popen(words, env={**os.environ, **environment}, stdin=subprocess.DEVNULL) as instance:
        try:
            _until_it_answers(app)
            yield app
        finally:
            instance.kill()
            shutil.rmtree(root)


def _until_it_answers(app: App) -> None:
    deadline = time.monotonic() + 60
    while not agent.address(app, RELEASE).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rpc(app: App, expression: str) -> tuple[int, str, str]:
    out, err = io.BytesIO(), io.BytesIO()
    code = agent.rpc(app, RELEASE, expression, out, err)
    return code, out.getvalue().decode(), err.getvalue().decode()


def test_what_an_expression_prints_is_shown_and_what_it_is_worth_is_not(app: App) -> None:
    assert rpc(app, 'IO.puts("grüß\n" <> "dich"); IO.inspect({1, "x"}); 42') == (0, 'grüß\ndich\n{1, "x"}\n', "")


def test_what_prints_without_saying_the_encoding_is_shown_too(app: App) -> None:
    assert rpc(app, ':io.format("~p~n", [:a]); :io.put_chars("b")')[1] == "a\nb"


@pytest.mark.parametrize(
    ("expression", "says"),
    [('raise "no"', "(RuntimeError) no"), ("exit(:boom)", "boom"), ("throw(:x)", ":x"), ("1 +", "TokenMissing")],
)
def test_an_expression_that_fails_gives_its_error_and_status_1(app: App, expression: str, says: str) -> None:
    code, out, err = rpc(app, f'IO.write("before")\n{expression}' if expression != "1 +" else expression)

    assert code == 1
    assert says in err
    assert out in ("before", "")


def test_one_that_is_killed_fails_as_well(app: App) -> None:
    code, _, err = rpc(app, "Process.exit(self(), :kill)")
    assert (code, "killed" in err) == (1, True)


def test_nothing_can_be_read_by_an_expression(app: App) -> None:
    assert rpc(app, 'IO.inspect(IO.gets("? ")); IO.inspect(IO.read(:line))')[1] == ":eof\n:eof\n"


def test_an_expression_ends_when_nobody_waits_for_it(app: App) -> None:
    waiting = 'Process.register(self(), :waiting); IO.puts("now"); Process.sleep(:infinity)'
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.address(app, RELEASE)))
        client.sendall(agent.packet(f"rpc {waiting}"))
        assert next(agent.packets(client.makefile("rb"))) == ("o", b"now\n")
        assert rpc(app, "IO.inspect(is_pid(Process.whereis(:waiting)))")[1] == "true\n"
        client.shutdown(socket.SHUT_RDWR)

    deadline = time.monotonic() + 30
    while rpc(app, "IO.inspect(Process.whereis(:waiting))")[1] != "nil\n":
        assert time.monotonic() < deadline


def test_the_node_has_its_name_and_no_way_in_from_the_network(app: App) -> None:
    assert agent.node(app, RELEASE) == NODE
    listening = ":erlang.ports() |> Enum.map(&:inet.sockname/1) |> Enum.filter(&match?({:ok, {{_, _, _, _}, _}}, &1))"
    assert rpc(app, f"IO.inspect({listening})")[1] == "[]\n"


def test_a_peer_that_is_not_there_is_not_connected_to(app: App) -> None:
    assert agent.connect(app, RELEASE, "console@127.77.77.77", "c00kie") is False


def test_an_instance_without_an_agent_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be asked") as caught:
        agent.node(Layout(tmp_path).app("shop"), RELEASE)
    assert "deploy push" in caught.value.fix


@given(st.lists(st.tuples(st.sampled_from("oes"), st.binary(max_size=50))))
def test_packets_are_read_as_they_were_sent(sent: list[tuple[str, bytes]]) -> None:
    stream = b"".join(struct.pack(">I", 1 + len(content)) + kind.encode() + content for kind, content in sent)
    assert list(agent.packets(io.BytesIO(stream))) == sent
