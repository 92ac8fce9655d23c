"""The verbs by which a person looks into the app: on a real host, the console and the logs in a real terminal."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import Project, on_host, until, version

PROMPT = "iex(hello@127.0.0.1)"


class Terminal:
    """A terminal of 100 columns in which a `deploy` runs, and which says so when it has ended."""

    def __init__(self, project: Project, socket: Path, *args: str) -> None:
        self.socket = socket
        typed = f"trap : INT; {shlex.join(project.command(*args))}; echo ended with $?; exec cat"
        self.tmux("new-session", "-d", "-s", "t", "-x", "100", "-y", "40", "-c", str(project.root), "sh", "-c", typed)

    def tmux(self, *args: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *args]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    def close(self) -> None:
        """Close the window; what runs in it is told as by any terminal."""
        subprocess.run(["tmux", "-S", str(self.socket), "kill-server"], capture_output=True, check=False)

    def screen(self, *options: str) -> str:
        return self.tmux("capture-pane", "-p", "-t", "t", *options)

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "t", *keys)

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.screen(), f"{text!r} is on the screen:\n{self.screen()}")


@pytest.fixture
def terminal(project: Project, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*args: str) -> Terminal:
        opened.append(Terminal(project, tmp_path / f"tmux{len(opened)}", *args))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def instance(project: Project) -> object:
    return version(project)["pid"]


def helpers(box: Sandbox) -> str:
    """The units and directories that a person's programs have on the host, beside those of the releases."""
    units = "systemctl list-units --plain --no-legend 'homeport-hello-run-*'"
    return on_host(box, f"{units}; ls /run/homeport-hello | grep -v '^[0-9]' || true")


def listening(box: Sandbox) -> set[str]:
    """The addresses on the host at which a BEAM, or hostctl, listens."""
    return {
        line.split()[3] for line in on_host(box, "ss -H -ltnp | grep -E 'beam|python|hostctl' || true").splitlines()
    }


@contextlib.contextmanager
def held(project: Project, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A way that a `deploy` holds open, and the first line that it prints."""
    with project.start(*args) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().rstrip("\n")
        finally:
            process.terminate()


@pytest.fixture
def free_port() -> int:
    """A port of this machine that the kernel gives to no connection meanwhile."""
    for port in random.sample(range(15000, 30000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all are taken")


def test_a_console_is_in_the_live_instance_and_leaves_nothing_but_itself(
    live: Sandbox, project: Project, terminal: Callable[..., Terminal]
) -> None:
    before, release = instance(project), project.live()
    console = terminal("console")
    console.wait_for(PROMPT)
    console.type('IO.puts(System.get_env("HOMEPORT_RELEASE")); :io.columns()', "Enter")
    console.wait_for("{:ok, 100}")
    assert f"\n{release}\n" in console.screen()

    console.type("Enum.cou", "Tab")
    console.wait_for("Enum.count")
    console.type("([1, 2])", "Enter")
    console.tmux("resize-window", "-t", "t", "-x", "80")
    console.type(":io.columns()", "Enter")
    console.wait_for("{:ok, 80}")
    console.type(":colourful", "Enter")
    console.wait_for("\n:colourful")
    assert "\x1b[36m:colourful" in console.screen("-e")

    console.type("C-c")
    console.wait_for("BREAK")
    console.type("C-c")
    console.wait_for("ended with 0")

    assert instance(project) == before
    assert helpers(live) == ""


def test_nothing_listens_for_a_console_before_and_after_it_and_only_inside_the_host_meanwhile(
    live: Sandbox, project: Project, terminal: Callable[..., Terminal]
) -> None:
    before = listening(live)  # an older release may still drain
    first, second = terminal("console"), terminal("console")
    first.wait_for(PROMPT)
    second.wait_for(PROMPT)
    opened = listening(live) - before
    assert len(opened) == 2
    assert all(address.startswith("127.") for address in opened)
    said = on_host(live, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    cookies = on_host(live, "cat /run/homeport-hello/run-*/.erlang.cookie; echo; cat /var/lib/homeport/hello/cookie")
    assert not [cookie for cookie in cookies.split() if cookie in said]

    # a terminal that is closed leaves nothing either
    first.close()
    second.close()
    until(lambda: helpers(live) == "", "both consoles have ended")
    assert listening(live) <= before


def test_a_console_of_which_every_process_is_killed_leaves_nothing(
    live: Sandbox, project: Project, terminal: Callable[..., Terminal]
) -> None:
    console = terminal("console")
    console.wait_for(PROMPT)
    on_host(live, "pkill -KILL -f '[h]ostctl hello shell run'; pkill -KILL -f '[-]-unit=homeport-hello-run' || true")
    until(lambda: helpers(live) == "", "its unit and its home are gone")


def test_a_local_node_sees_the_processes_of_the_live_instance_and_nothing_is_left(
    live: Sandbox, project: Project, free_port: int
) -> None:
    before, pid = listening(live), str(instance(project))
    with held(project, "observer", str(free_port)) as (process, printed):
        command = shlex.split(printed)
        assert command[:2] == ["erl", "-args_file"]
        opened = listening(live) - before
        assert [address.partition(".")[0] for address in opened] == ["127"]
        cookie = re.findall(r"Cookie = '(\w+)'", Path(f"{command[2]}.erl").read_text())[0]

        look = "[N] = nodes(hidden), [Pid | _] = rpc:call(N, erlang, processes, []), "
        look += 'io:format("~s ~p ~p~n", [rpc:call(N, os, getpid, []), node(Pid), N]), '
        shown = 'io:put_chars(os:cmd("cat /proc/" ++ os:getpid() ++ "/cmdline")), halt().'
        seen = subprocess.run(
            [*command, "-noinput", "-eval", look + shown], capture_output=True, text=True, timeout=60, check=True
        )
        assert process.wait(60) == 0
    line, cmdline = seen.stdout.split("\n", 1)
    assert line == f"{pid} 'hello@127.0.0.1' 'hello@127.0.0.1'"
    assert "-args_file" not in cmdline  # erl has put what is in it there
    assert cookie not in cmdline
    assert cookie not in on_host(live, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert not Path(command[2]).exists()
    assert listening(live) == before


def test_a_tunnel_leads_past_the_edge_to_the_instance_or_to_any_port_of_the_host(
    live: Sandbox, project: Project, free_port: int
) -> None:
    before = listening(live)
    with held(project, "tunnel", "--local", str(free_port)) as (process, printed):
        assert printed == f"http://localhost:{free_port}"
        asked = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
        asked.request("GET", "/version", headers={"Host": project.domain, "X-Forwarded-Proto": "https"})
        assert json.loads(asked.getresponse().read())["pid"] == instance(project)
        asked.close()
        assert listening(live) == before
        process.terminate()
        assert process.wait(60) == 0
    with held(project, "tunnel", "22", "--local", str(free_port)) as (_, printed):
        assert printed == f"127.0.0.1:{free_port}"
        with socket.create_connection(("127.0.0.1", free_port), timeout=20) as there:
            assert there.recv(7) == b"SSH-2.0"


def test_an_expression_is_evaluated_in_the_instance_or_beside_it(live: Sandbox, project: Project) -> None:
    pid = str(instance(project))
    print_pid = "IO.puts(System.pid())"
    assert project.deploy("rpc", print_pid).out.strip() == pid
    assert project.deploy("eval", print_pid).out.strip() != pid

    failed = [project.deploy(verb, 'raise "not today"', check=False) for verb in ("rpc", "eval")]
    assert [one.code for one in failed] == [1, 1]
    assert all("(RuntimeError) not today" in one.err for one in failed)
    assert str(instance(project)) == pid


def test_a_program_runs_as_the_app_with_its_environment_and_its_status_is_passed_on(
    live: Sandbox, project: Project
) -> None:
    release = project.live()
    script = 'id -un; echo "$HOMEPORT_RELEASE $PORT ${PHX_SERVER-unset}"; cat; exit 9'
    done = subprocess.run(
        project.command("run", "sh", "-c", script), cwd=project.root, input="piped\n", capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (9, f"hello\n{release} 0 unset\npiped\n")

    walled = project.deploy("run", "sh", "-c", "touch /etc/x || touch /srv/hello/x || ls /home", check=False)
    assert walled.code != 0
    assert helpers(live) == ""


def test_what_is_run_or_evaluated_is_in_no_log_and_in_the_audit_by_name_only(live: Sandbox, project: Project) -> None:
    marker = "hunter2-in-the-words"
    project.deploy("run", "sh", "-c", f": {marker}")
    project.deploy("rpc", f':ok; _ = "{marker}"')
    project.deploy("eval", f':ok; _ = "{marker}"')

    on_host(live, "journalctl --sync")
    assert on_host(live, f"journalctl -q --no-pager | grep -c {marker} || true") == "0"
    assert marker not in on_host(live, "cat /var/lib/homeport/hello/audit.jsonl")
    told = json.loads(project.deploy("audit", "-n", "3", "--json").out)
    assert [(one["verb"], one["message"]) for one in told] == [("run", "sh"), ("rpc", ""), ("eval", "")]


def test_exec_shares_the_instances_own_tmp_and_run_does_not(live: Sandbox, project: Project) -> None:
    project.deploy("rpc", 'File.write!("/tmp/of-the-instance", "here")')
    assert project.deploy("exec", "cat", "/tmp/of-the-instance").out == "here"
    assert project.deploy("run", "cat", "/tmp/of-the-instance", check=False).code == 1
    project.deploy("rpc", 'File.rm!("/tmp/of-the-instance")')


def test_a_program_ends_with_the_person_who_runs_it_and_goes_on_when_it_is_detached(
    live: Sandbox, project: Project, terminal: Callable[..., Terminal]
) -> None:
    started = project.start("run", "sh", "-c", "echo begun; exec sleep 1000")
    assert started.stdout is not None
    assert started.stdout.readline() == "begun\n"
    started.terminate()
    started.communicate()
    until(lambda: helpers(live) == "", "it has ended on the host")

    typed = terminal("run", "sh", "-c", "stty size; exec sleep 1000")
    typed.wait_for("40 100")
    typed.type("C-c")
    typed.wait_for("ended with ")
    assert helpers(live) == ""

    project.deploy("run", "--detach", "sh", "-c", "sleep 1; echo it went on")
    until(lambda: "it went on" in project.deploy("logs", "run").out, "its words are in the logs")


def test_logs_are_those_that_were_asked_for(live: Sandbox, project: Project, terminal: Callable[..., Terminal]) -> None:
    project.deploy("rpc", 'for word <- ~w(apple Pear plum), do: IO.puts(:stderr, "fruit " <> word)')
    last = [json.loads(line) for line in project.deploy("logs", "app", "-n", "3", "--json").out.splitlines()]
    assert [one["message"] for one in last] == ["fruit apple", "fruit Pear", "fruit plum"]
    assert {one["unit"] for one in last} == {f"hello@{project.live()}.service"}
    assert [line.split()[-1] for line in project.deploy("logs", "--grep", "fruit p", "-n", "2").out.splitlines()] == [
        "Pear",
        "plum",
    ]
    assert project.deploy("logs", "--since", "2090-01-01").out == ""

    following = terminal("logs", "-f", "-n", "1", "--grep", "fruit")
    following.wait_for("fruit plum")
    project.deploy("rpc", 'IO.puts(:stderr, "fruit cherry"); IO.puts(:stderr, "no berry")')
    following.wait_for("fruit cherry")
    assert "berry" not in following.screen()
    following.type("C-c")
    following.wait_for("ended with ")


@pytest.mark.parametrize(
    "args",
    [
        ("run",),
        ("run", "bin/nope"),
        ("exec", "no-such-program"),
        ("rpc", " "),
        ("eval",),
        ("console",),  # without a terminal
        ("logs", "neighbours"),
        ("logs", "--since", "soon"),
        ("logs", "--grep", "("),
        ("logs", "db", "--failed"),
        ("logs", "--release", "2026", "--failed"),
        ("logs", "--release", "1999"),
        ("open", "a b"),
    ],
)
def test_what_is_not_right_is_refused_with_2_and_runs_nothing(
    live: Sandbox, project: Project, args: tuple[str, ...]
) -> None:
    before = on_host(live, "wc -l < /var/lib/homeport/hello/audit.jsonl")
    done = project.deploy(*args, check=False)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert on_host(live, "wc -l < /var/lib/homeport/hello/audit.jsonl") == before


def test_a_login_has_the_key_and_host_key_of_the_project(live: Sandbox, project: Project) -> None:
    assert project.deploy("ssh", "id -un; exit 7", check=False).code == 7
    assert project.deploy("ssh", "id", "-un").out == "deploy\n"
    assert project.deploy("open", "--json", "admin").json == {"url": f"https://{project.domain}/admin"}
