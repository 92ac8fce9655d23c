"""A hostile app and a stolen deploy key on a real host: each tries what docs/explanation/security.md lists."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import APP, Project, on_host, until, version

# a server that answers 200 to everybody, as a healthy app does
SERVER = """
import http.server, sys
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"stolen")
http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), Ok).serve_forever()
"""
# takes the place of a socket, and keeps what it is sent
SOCKET = """
import os, socket, sys
path = sys.argv[1]
if os.path.lexists(path): os.rename(path, path + ".own")
server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen()
while True:
    connection, _ = server.accept(); print("got", connection.recv(100), flush=True)
"""
BIND = "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('bound')"
LOADS = """
import marshal, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob("*.pyc"): marshal.loads(path.read_bytes()[16:])
"""
# root asks the agent by its path, as hostctl did
ROOT = """
import socket, struct, sys
client = socket.socket(socket.AF_UNIX); client.settimeout(10); client.connect(sys.argv[1])
client.sendall(struct.pack(">I", 4) + b"node"); print("answer", client.recv(100))
"""


def agent(box: Sandbox) -> str:
    """The path of the live instance's agent."""
    release = on_host(box, f"basename $(readlink /var/lib/homeport/{APP}/live)")
    return f"/run/homeport-{APP}/{release}/agent"


def by_app(box: Sandbox, command: str, *, works: bool = True) -> None:
    """A command that the app's user runs."""
    done = box.run(f"runuser -u {APP} -- sh -c {shlex.quote(command)}", timeout=30)
    assert (done.returncode == 0) == works, (command, done.stdout, done.stderr)


def python(program: str, *args: str) -> str:
    return shlex.join(["python3", "-c", program, *args])


@contextlib.contextmanager
def hostile(box: Sandbox, user: str, program: str, *args: str) -> Iterator[str]:
    """A program of another unit, as that user; gives the unit's name."""
    unit = "hostile.service"
    on_host(box, f"systemd-run -q --unit={unit} -p User={user} {python(program, *args)}")
    try:
        yield unit
    finally:
        on_host(box, f"systemctl stop {unit}; systemctl reset-failed {unit} 2>/dev/null || true")


def refused(project: Project, says: str) -> None:
    """rpc, and the node's name that console and observer ask for, reach nobody; the instance itself runs on."""
    done = project.deploy("rpc", 'IO.puts("asked")', check=False)
    assert done.code != 0
    assert says in done.err, done.err
    assert "asked" not in done.out


@pytest.fixture
def displaced(live: Sandbox) -> Iterator[str]:
    """The agent's path, which the app's user has made free; its socket comes back."""
    path = agent(live)
    by_app(live, f"mv {path} {path}.own")
    yield path
    by_app(live, f"rm -f {path}; mv {path}.own {path}")


def test_a_link_to_systemds_private_socket_is_not_followed(live: Sandbox, project: Project, displaced: str) -> None:
    by_app(live, f"ln -s /run/systemd/private {displaced}")
    # the attack is real: root who goes by the path is connected to systemd
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('connected')"
    assert on_host(live, python(connect, displaced)) == "connected"
    refused(project, "cannot be asked")


def test_a_link_to_another_agent_is_not_followed(live: Sandbox, project: Project, displaced: str) -> None:
    by_app(live, f"ln -s {displaced}.own {displaced}")
    refused(project, "cannot be asked")


def test_a_socket_of_another_process_of_the_apps_user_is_not_asked(live: Sandbox, project: Project) -> None:
    path = agent(live)
    with hostile(live, APP, SOCKET, path) as unit:
        until(lambda: live.run(f"test -S {path}.own").returncode == 0, "the place of the agent is taken")
        refused(project, "is not the instance's")
        assert "got b''" in on_host(live, f"journalctl -q -o cat -u {unit}")
    by_app(live, f"rm -f {path}; mv {path}.own {path}")
    assert project.deploy("rpc", 'IO.puts("asked")').out == "asked\n"


def test_the_directory_of_an_instance_cannot_be_replaced(live: Sandbox, displaced: str) -> None:
    directory = displaced.rpartition("/")[0]
    for command in (f"mv {directory} {directory}.own", f"ln -s /run/systemd /run/homeport-{APP}/run-x"):
        by_app(live, command, works=False)


def test_the_agent_answers_to_nobody_but_its_own_user_not_even_to_root(live: Sandbox) -> None:
    done = live.run(python(ROOT, agent(live)), timeout=30)
    closed = "answer b''" in done.stdout or "ConnectionReset" in done.stderr or "BrokenPipe" in done.stderr
    assert closed, (done.stdout, done.stderr)


def test_whoever_takes_the_port_of_a_dead_instance_is_not_the_app(live: Sandbox, project: Project) -> None:
    shown = project.status()["live"]
    on_host(live, f"systemctl stop {shown['instance']}")
    try:
        with hostile(live, "nobody", SERVER, str(shown["port"])):
            until(
                lambda: live.run(f"curl -sf http://127.0.0.1:{shown['port']}/").stdout == "stolen", "the port is taken"
            )
            told = project.status()["health"]
            assert (told["ok"], told["status"]) == (False, 200)
            assert f"is not of {shown['instance']}" in told["text"]
            assert project.deploy("status", check=False).code == 1
    finally:
        on_host(live, f"systemctl start {shown['instance']}")
    until(lambda: bool(project.status()["health"]["ok"]), "the app itself answers again")


def test_a_program_whose_unit_is_gone_does_not_run_at_all(live: Sandbox, project: Project) -> None:
    unit = f"/etc/systemd/system/{APP}@.service"
    assert project.deploy("run", "--", "id", "-un").out.strip() == APP
    on_host(live, f"mv {unit} /root/ && systemctl daemon-reload")
    try:
        for words in (["run", "--", "id", "-u"], ["eval", "System.halt(0)"]):
            done = project.deploy(*words, check=False)
            assert (done.code, done.out) == (1, "")
            assert f"does not say that it runs as {APP}" in done.err
    finally:
        on_host(live, f"mv /root/{APP}@.service {unit} && systemctl daemon-reload")


def test_no_program_beside_the_instance_can_take_the_port_of_another(live: Sandbox, project: Project) -> None:
    own = "-p SocketBindDeny=tcp:20000-29999"
    if live.run(f"systemd-run -q --wait --pipe {own} {python(BIND, '29998')}").returncode == 0:
        pytest.skip("this kernel gives the host no BPF for control groups")
    assert project.deploy("run", "--", "python3", "-c", BIND, "31000").out == "bound\n"
    assert project.deploy("run", "--", "python3", "-c", BIND, "29998", check=False).code != 0
    shown = project.status()["live"]
    allowed = on_host(live, f"systemctl show -P SocketBindAllow {shown['instance']}")
    assert str(shown["port"]) in allowed
    # systemd 257 forgets it of a running unit at a daemon-reload, until the unit starts again
    on_host(live, f"systemctl kill -s KILL {shown['instance']}")
    until(lambda: bool(project.status()["health"]["ok"]), "the instance has started again")
    bind = "{_, why} = :gen_tcp.listen(29998, ip: {127, 0, 0, 1}); IO.inspect(why)"
    assert project.deploy("rpc", bind).out == ":eperm\n"


def test_the_deploy_user_leaves_no_broken_bytecode_to_others(live: Sandbox, project: Project) -> None:
    copies = "/usr/local/lib/homeport/hostctl-*"
    called = f"runuser -u deploy -- sh -c 'ulimit -f 8; sudo hostctl {APP} status'"
    on_host(live, f"find {copies} -name '*.pyc' -delete")
    assert json.loads(on_host(live, called))["app"] == APP
    assert on_host(live, f"find {copies} -name '*.pyc' | wc -l") == "0"
    on_host(live, f"rm -r {copies}")
    assert json.loads(on_host(live, called))["app"] == APP
    on_host(live, f"hostctl {APP} status >/dev/null; {python(LOADS, '/usr/local/lib/homeport')}")
    assert version(project)["version"]


def test_a_link_in_the_place_of_the_deploy_users_ssh_directory_leads_provisioning_nowhere(
    live: Sandbox, project: Project
) -> None:
    home = on_host(live, "getent passwd deploy | cut -d: -f6")
    as_deploy = "runuser -u deploy -- sh -c"
    on_host(live, "mkdir -m 700 /root/treasure")
    try:
        on_host(live, f"{as_deploy} 'mv {home}/.ssh {home}/.own && ln -s /root/treasure {home}/.ssh'")
        done = project.deploy("provision", check=False)
        assert done.code == 1, done.err
        assert "deploy may not write what is the user's own" in done.err
        assert on_host(live, "stat -c '%U %a' /root/treasure; ls -A /root/treasure") == "root 700"
    finally:
        on_host(live, f"{as_deploy} 'rm {home}/.ssh && mv {home}/.own {home}/.ssh'; rm -rf /root/treasure")
