"""A hostile app with a SQLite database on a real host: its directory, its files and its stream, against root."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from homeport.sandbox import Sandbox
from homeport.sandbox.services import read_credentials
from tests.apps.support import build_ledger
from tests.host.support import SETTINGS, Project, bring_up, get, new_project, on_host, settled, until
from tests.host.test_hostile import hostile

APP = "ledger"
DOMAIN = f"{APP}.sandbox.test"
DATA = f"/var/lib/{APP}"
DATABASE = f"{DATA}/{APP}.db"
STREAM = f"homeport-{APP}-litestream.service"
PLANTED = "/root/.ssh/authorized_keys2"
TRIES = 3
# takes the directory in which root restores, and leads what root writes in it to a file of root's
RACE = """
import contextlib, os, sys, time
data, file, target = sys.argv[1:]
end = time.monotonic() + 300
while time.monotonic() < end:
    for name in os.listdir(data):
        with contextlib.suppress(OSError):
            if name.startswith(".homeport-") and not name.endswith(".own") and os.lstat(f"{data}/{name}").st_uid == 0:
                os.rename(f"{data}/{name}", f"{data}/{name}.own")
                os.mkdir(f"{data}/{name}")
                for end_of_name in ("", ".tmp"):
                    os.symlink(target, f"{data}/{name}/{file}{end_of_name}")
                print("caught", name, flush=True)
"""
# a database of root's in a directory of root's
TRAP = """
import os, sqlite3
os.makedirs("/root/trap", exist_ok=True)
db = sqlite3.connect("/root/trap/more.db"); db.execute("CREATE TABLE IF NOT EXISTS secrets(x)"); db.commit()
"""


@pytest.fixture(scope="module")
def first(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = new_project(
        tmp_path_factory.mktemp("hostile") / "project", box, {**SETTINGS, "domains": [DOMAIN]}, DOMAIN, APP
    )
    bring_up(project, build_ledger(tmp_path_factory.mktemp("ledger")))
    return project


@pytest.fixture
def app(first: Project) -> Project:
    settled(first)
    until(lambda: serves(first), "the app serves")
    return first


@pytest.fixture
def trap(app: Project) -> Iterator[str]:
    """The path of a database of root's; the test fails unless it and its directory stay as they were."""
    look = "cd /root/trap && sha256sum * && ls -lA --time-style=full-iso"
    on_host(app.box, python(TRAP))
    before = on_host(app.box, look)
    yield "/root/trap/more.db"
    assert on_host(app.box, look) == before


def serves(app: Project) -> bool:
    try:
        return get(app, "/health").status == 200
    except OSError:
        return False


def python(program: str, *args: str) -> str:
    return shlex.join(["python3", "-c", program, *args])


def pid(app: Project) -> str:
    return on_host(app.box, f"systemctl show -P MainPID {STREAM}")


def by_app(app: Project, command: str) -> int:
    """The exit status of a command that the app's user runs, outside of the instance."""
    return app.box.run(f"runuser -u {APP} -- sh -c {shlex.quote(command)}", timeout=30).returncode


def hostctl(app: Project, *words: str) -> tuple[int, str]:
    done = app.box.run(shlex.join(["hostctl", APP, *words]), timeout=120)
    return done.returncode, done.stdout + done.stderr


def drill(app: Project) -> tuple[int, str]:
    """The exit status of a drill in its unit, and what it has found."""
    done = app.box.run(f"systemctl start homeport-{APP}-drill.service", timeout=120)
    return done.returncode, on_host(app.box, f"cat /var/lib/homeport/{APP}/backup/drill.json")


def instance(app: Project) -> str:
    return f"{APP}@{app.live()}.service"


# ---------------------------------------------------------------------------------------------- the race


def test_a_host_that_restores_itself_writes_nothing_where_the_app_leads_it(app: Project) -> None:
    on_host(app.box, f"mkdir -p -m 700 /root/.ssh; rm -rf {PLANTED} {DATA}/.homeport-*")
    since = on_host(app.box, "date '+%F %T'")
    with hostile(app.box, APP, RACE, DATA, f"{APP}.db", PLANTED) as unit:
        # the attack is real: root who works in a directory of the app's writes where the app wants
        on_host(app.box, f"mkdir -m 700 {DATA}/.homeport-00000000")
        until(lambda: caught(app, unit, since) == 1, "the app has put its own directory there")
        on_host(app.box, f"echo planted >{DATA}/.homeport-00000000/{APP}.db.tmp; grep -q planted {PLANTED}")
        on_host(app.box, f"rm -r {PLANTED} {DATA}/.homeport-*")
        for _ in range(TRIES):
            lose(app)
            on_host(app.box, f"systemctl start --no-block {STREAM}")
            until(lambda: serves(app), "the file is restored, and the app started")
            assert app.box.run(f"test -e {PLANTED}").returncode != 0
        assert caught(app, unit, since) == 1
    on_host(app.box, f"systemctl start homeport-{APP}-watch.timer")
    assert on_host(app.box, f"stat -c '%U %a' {DATABASE}") == f"{APP} 600"


def caught(app: Project, unit: str, since: str) -> int:
    """How often the program has taken the place of a directory of root's; systemd's own lines are left out."""
    return on_host(app.box, f"journalctl -q -o cat _SYSTEMD_UNIT={unit} --since '{since}'").count("caught")


def lose(app: Project) -> None:
    """The app and its stream end cleanly, and all of the app's data is gone."""
    on_host(app.box, f"systemctl stop homeport-{APP}-watch.timer {instance(app)} {STREAM}")
    on_host(app.box, f"find {DATA} -mindepth 1 -delete")


# ---------------------------------------------------------------------------------------------- links


@pytest.fixture
def displaced(app: Project) -> Iterator[None]:
    """The app and its stream stand still, and the place of the database is free."""
    with_files = f"{DATABASE} {DATABASE}-wal {DATABASE}-shm {DATA}/.{APP}.db-litestream"
    unit = instance(app)
    on_host(app.box, f"systemctl stop homeport-{APP}-watch.timer {unit} {STREAM}")
    on_host(app.box, f"mkdir -p /root/own && for f in {with_files}; do test ! -e $f || mv $f /root/own/; done")
    yield
    on_host(app.box, f"systemctl stop {STREAM}; rm -rf {with_files}")
    on_host(app.box, f"find /root/own -mindepth 1 -maxdepth 1 -exec mv -t {DATA} {{}} +")
    on_host(app.box, f"systemctl start {STREAM} {unit} homeport-{APP}-watch.timer")


COMMANDS = (
    ("stream", "prepare"), ("stream", "watch"), ("db", "dump"), ("db", "dump", "--sql"), ("backup", "run"),
)  # fmt: skip


@pytest.mark.usefixtures("displaced")
def test_a_database_of_roots_in_place_of_the_apps_is_not_opened(app: Project, trap: str) -> None:
    # the attack is real: root reads by the path
    assert by_app(app, f"ln -s {trap} {DATABASE}") == 0
    on_host(app.box, python(f"import sqlite3; sqlite3.connect('{DATABASE}').execute('SELECT * FROM secrets')"))
    for words in COMMANDS:
        _, told = hostctl(app, *words)
        assert "secrets" not in told
    assert drill(app)[0] != 0
    assert by_app(app, f"rm {DATABASE}") == 0


@pytest.mark.usefixtures("displaced")
def test_a_fifo_in_place_of_the_database_keeps_no_command_waiting(app: Project) -> None:
    assert by_app(app, f"mkfifo {DATABASE}") == 0
    for words in COMMANDS[2:4]:
        code, told = hostctl(app, *words)
        assert code != 0, told
    assert drill(app)[0] != 0


def test_a_link_in_place_of_litestreams_state_is_not_followed(app: Project, trap: str) -> None:
    state = f"{DATA}/.{APP}.db-litestream"
    on_host(app.box, f"systemctl stop {STREAM}")
    assert by_app(app, f"mv {state} {state}.own && ln -s {trap.rpartition('/')[0]} {state}") == 0
    on_host(app.box, f"systemctl start {STREAM}")
    until(lambda: on_host(app.box, f"systemctl is-active {STREAM} || true") == "active", "the stream is back")
    assert on_host(app.box, f"stat -c '%U %F' {state}") == f"{APP} directory"
    on_host(app.box, f"rm -r {state}.own; hostctl {APP} backup run")


# ---------------------------------------------------------------------------------------------- the stream


def test_litestream_is_the_apps_user_with_nothing_more(app: Project) -> None:
    status = dict(line.split(":\t", 1) for line in on_host(app.box, f"cat /proc/{pid(app)}/status").splitlines())
    assert on_host(app.box, f"ps -o user:32= -p {pid(app)}") == APP
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    runtime = f"/run/homeport-{APP}-litestream"
    assert on_host(app.box, f"stat -c '%U %a' {runtime} {runtime}/litestream.yml {runtime}/socket").splitlines() == [
        "root 755",
        "root 644",
        f"{APP} 700",
    ]


def test_no_process_of_the_apps_user_reads_the_keys_of_the_bucket(app: Project) -> None:
    (secret,) = read_credentials(app.box.credentials)[1:2]
    environment = f"/proc/{pid(app)}/environ"
    on_host(app.box, f"grep -q {secret} {environment}")
    # the attack is real: a program that its user may read shows its environment
    readable = "env SECRET=shown sleep 30 >/dev/null 2>&1 & sleep 1; grep -q shown /proc/$!/environ"
    assert by_app(app, readable) == 0
    for path in (environment, f"/proc/{pid(app)}/mem", f"/proc/{pid(app)}/fd/0", f"/etc/homeport/{APP}/backup.env"):
        assert by_app(app, f"cat {path}") != 0
    program = on_host(app.box, f"readlink /proc/{pid(app)}/exe")
    assert by_app(app, f"cat {program}") != 0


def test_another_process_of_the_apps_user_on_litestreams_socket_is_not_believed(app: Project) -> None:
    socket = f"/run/homeport-{APP}-litestream/socket/litestream.sock"
    program = (
        "import os, socket, sys; os.rename(sys.argv[1], sys.argv[1] + '.own'); s = socket.socket(socket.AF_UNIX)\n"
        "s.bind(sys.argv[1]); s.listen()\nwhile True: c, _ = s.accept(); print('got', c.recv(10), flush=True)"
    )
    with hostile(app.box, APP, program, socket) as unit:
        until(lambda: app.box.run(f"test -S {socket}.own").returncode == 0, "the place of the socket is taken")
        code, told = drill(app)
        assert code != 0
        assert "Litestream does not run" in told
        assert "got b'GET" not in on_host(app.box, f"journalctl -q -o cat -u {unit}")
    on_host(app.box, f"mv {socket}.own {socket}")
    code, told = drill(app)
    assert code == 0, told


# ---------------------------------------------------------------------------------------------- an older Homeport


def test_what_an_older_homeport_left_as_root_becomes_the_apps(app: Project) -> None:
    state = f"{DATA}/.{APP}.db-litestream"
    on_host(app.box, f"systemctl stop {STREAM}; chown -R root:root {state}; mkdir -m 700 {DATA}/.homeport-0a1b2c3d")
    on_host(app.box, f"systemctl start {STREAM}")
    until(lambda: drill(app)[0] == 0, "the stream goes on")
    assert on_host(app.box, f"find {DATA} ! -user {APP}") == ""
    assert on_host(app.box, f"find {DATA} -name '.homeport-*'") == ""


@pytest.fixture(autouse=True, scope="module")
def cleaned(first: Project) -> Iterator[None]:
    yield
    on_host(first.box, f"rm -rf {PLANTED} /root/trap /root/own")
