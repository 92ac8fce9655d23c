"""Reboots, cut wires, killed processes and two people at once: the host stays sound, and tells what happened."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import pytest

from homeport.sandbox import Sandbox, cut, reboot
from tests.host.command_lines import watching
from tests.host.support import APP, Done, Json, Project, new_project, on_host, settled, until, version

STATE = f"/var/lib/homeport/{APP}"
SSH_GIVES_UP = 20.0  # seconds: three unanswered probes, five seconds apart, and some

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a link down")


@pytest.fixture
def app(live: Sandbox, project: Project) -> Iterator[Project]:
    """The app with a release live and nothing going on. Whatever a test leaves running ends with it."""
    settled(project)
    on_host(project.box, f"rm -f {STATE}/artifacts/*.part*")
    yield project
    while STARTED:
        kill(STARTED.pop())
    project.box.run(f"hostctl {APP} lock release --who the-tests --from here --force")


STARTED: list[subprocess.Popen[str]] = []


def start(app: Project, artifact: Path) -> subprocess.Popen[str]:
    """A push that runs beside the test."""
    STARTED.append(app.start("push", "--artifact", artifact))
    return STARTED[-1]


def kill(running: subprocess.Popen[str]) -> None:
    """End it and all its processes at once, as closing the lid for good would."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    if running.stdout and not running.stdout.closed:
        running.communicate()


def change(app: Project, drain: str = "1s", **switches: str) -> None:
    """Make the next push a release of its own, with these switches of the example app."""
    app.configure(drain_timeout=drain, env={"clear": {"GREETING": secrets.token_hex(4), **switches}})


def begin(app: Project, artifact: Path, *, phase: str, drain: str = "1s", **switches: str) -> subprocess.Popen[str]:
    """A push that has come to `phase` on the host, and is still at it."""
    change(app, drain, **switches)
    running = start(app, artifact)
    reached(app, phase)
    return running


def reached(app: Project, phase: str) -> None:
    """Wait until the transition on the host is in this step."""
    until(lambda: (json.loads(held(app) or "{}") or {}).get("phase") == phase, f"the push comes to {phase}", 120)


def held(app: Project) -> str:
    return app.box.run(f"cat {STATE}/lock.json").stdout


def ended(running: subprocess.Popen[str]) -> Done:
    """How a `deploy` that runs beside the test ended."""
    out, _ = running.communicate(timeout=120)
    return Done(running.returncode, out, "")


def check_sound(app: Project, release: str) -> None:
    """The release serves, status and the edge agree on it, nobody holds the lock, and nothing half-done is left."""
    settled(app)
    told = app.status()
    assert told["live"]["release"] == release
    assert told["health"]["ok"]
    assert told["lock"] is None
    assert version(app)["release"] == release
    assert on_host(app.box, f"systemctl list-units --plain --no-legend '{APP}@*' | cut -d' ' -f1").splitlines() == [
        f"{APP}@{release}.service"
    ]
    half_done = "-name '*.part' -o -name '.gone-*' -o -name '*.new'"
    assert on_host(app.box, f"find /srv/{APP} {STATE}/releases {half_done}") == ""
    assert on_host(app.box, "systemctl list-units --plain --no-legend --state=failed") == ""


def check_next_push(app: Project, artifact: Path) -> None:
    change(app)
    done = app.push(artifact)
    assert done["result"] == "live"
    check_sound(app, done["release"])


# ---------------------------------------------------------------------------------------------- power


@pytest.mark.parametrize(
    "hard", [pytest.param(False, id="reboot", marks=pytest.mark.full), pytest.param(True, id="power cut")]
)
def test_after_a_reboot_the_live_release_serves_again_without_the_laptop(
    app: Project, artifacts: dict[int, Path], hard: bool
) -> None:
    change(app)
    release = app.push(artifacts[2])["release"]

    reboot(app.box.name, hard=hard)

    until(lambda: serves(app, release), "the live release serves after the reboot", 20)
    check_sound(app, release)


def serves(app: Project, release: str) -> bool:
    with suppress(OSError, ValueError, AssertionError):
        return bool(version(app)["release"] == release)
    return False


@pytest.mark.parametrize(
    ("phase", "switches"),
    [
        pytest.param("migrate", {"HELLO_SLOW_MIGRATION_MS": "30000"}, id="migrate"),
        pytest.param("health", {"HELLO_SLOW_BOOT_MS": "9000"}, id="health", marks=pytest.mark.full),
    ],
)
def test_after_a_power_cut_in_the_middle_of_a_push_the_last_good_release_serves(
    app: Project, artifacts: dict[int, Path], phase: str, switches: dict[str, str]
) -> None:
    good = app.live()
    running = begin(app, artifacts[1], phase=phase, **switches)

    reboot(app.box.name, hard=True)

    until(lambda: serves(app, good), "the last good release serves", 20)
    told = ended(running)
    assert told.code == 3, told.out
    assert f"interrupted in {phase}" in told.out
    check_sound(app, good)
    assert app.deploy("attach", check=False).code == 3
    check_next_push(app, artifacts[1])


def test_after_a_power_cut_during_the_drain_the_new_release_serves(app: Project, artifacts: dict[int, Path]) -> None:
    change(app, drain="10s")
    with app.websocket():
        done = app.push(artifacts[2])
        assert [each["release"] for each in app.status()["drains"]] == [done["previous"]]

        reboot(app.box.name, hard=True)

    until(lambda: serves(app, done["release"]), "the new release serves", 20)
    check_sound(app, done["release"])
    check_next_push(app, artifacts[2])


# ---------------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize(
    ("phase", "switches"),
    [
        pytest.param("migrate", {"HELLO_SLOW_MIGRATION_MS": "30000"}, id="migrate", marks=pytest.mark.full),
        pytest.param("health", {"HELLO_SLOW_BOOT_MS": "9000"}, id="health"),
    ],
)
def test_a_transition_that_is_killed_on_the_host_is_undone(
    app: Project, artifacts: dict[int, Path], phase: str, switches: dict[str, str]
) -> None:
    good = app.live()
    running = begin(app, artifacts[1], phase=phase, **switches)

    on_host(app.box, f"systemctl kill --kill-whom=main -s KILL homeport-{APP}-transition.service")

    told = ended(running)
    assert (told.code, f"interrupted in {phase}" in told.out) == (3, True), told.out
    check_sound(app, good)
    check_next_push(app, artifacts[1])


@pytest.mark.full
def test_the_host_finishes_what_a_laptop_began_that_died(app: Project, artifacts: dict[int, Path]) -> None:
    before = app.live()
    running = begin(app, artifacts[2], phase="health", HELLO_SLOW_BOOT_MS="3000")

    kill(running)

    attached = app.deploy("attach", "--json")
    assert attached.json["result"] == "live"
    assert attached.json["previous"] == before
    check_sound(app, attached.json["release"])
    check_next_push(app, artifacts[2])


@pytest.mark.full
def test_what_a_killed_run_leaves_on_the_laptop_the_next_run_clears(app: Project, artifacts: dict[int, Path]) -> None:
    running = begin(app, artifacts[2], phase="health", HELLO_SLOW_BOOT_MS="2000")
    left = private_directories(running)
    kill(running)
    assert left

    app.deploy("attach")
    check_next_push(app, artifacts[2])

    assert not left & private_directories(running)


def private_directories(running: subprocess.Popen[str]) -> set[Path]:
    """Those of one `deploy`: others of this machine, which push to other hosts, have theirs."""
    return set(Path("/dev/shm").glob(f"homeport-run-{running.pid}-*"))


# ---------------------------------------------------------------------------------------------- Ctrl-C


@contextmanager
def at_a_terminal(app: Project, *args: str | Path) -> Iterator[tuple[int, int]]:
    """`deploy` with a terminal of its own: its process number, and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(app.root)
        command = app.command(*map(str, args))
        os.execv(command[0], command)
    try:
        yield pid, terminal
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)


def rest_of(pid: int, terminal: int) -> Done:
    """All that is written to the terminal until the program ends."""
    said = b""
    with suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(terminal, 65536):
            said += piece
    return Done(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "", said.decode(errors="replace"))


def test_ctrl_c_during_the_switch_leaves_the_rest_to_the_host_and_says_so(
    app: Project, artifacts: dict[int, Path]
) -> None:
    change(app, HELLO_SLOW_BOOT_MS="4000")
    with at_a_terminal(app, "push", "--artifact", artifacts[1]) as (pid, terminal):
        reached(app, "health")
        os.write(terminal, b"\x03")
        told = rest_of(pid, terminal)

    assert told.code == 130, told.err
    assert "the host finishes or undoes what it began" in told.err
    assert "deploy attach" in told.err
    assert "Traceback" not in told.err
    attached = app.deploy("attach", "--json").json
    assert attached["result"] == "live"
    check_sound(app, attached["release"])


@pytest.mark.full
@needs_root
def test_ctrl_c_before_the_switch_changes_nothing_and_says_so(
    app: Project, artifacts: dict[int, Path], tmp_path: Path
) -> None:
    before = app.live()
    release = heavier(artifacts[1], tmp_path)
    with slow_link(app.box), at_a_terminal(app, "push", "--artifact", release) as (pid, terminal):
        upload_comes_to(app, 1)
        os.write(terminal, b"\x03")
        told = rest_of(pid, terminal)

    assert told.code == 130, told.err
    assert "interrupted; nothing changed" in told.err
    check_state_after_cut_upload(app, before)


# ---------------------------------------------------------------------------------------------- the wire


def heavier(release: Path, directory: Path) -> Path:
    """A copy of the release with 24 MB that no compression makes smaller: several pieces of an upload."""
    copy = directory / APP
    shutil.copytree(release, copy, symlinks=True)
    (copy / "noise").write_bytes(os.urandom(24_000_000))
    return copy


def uploaded(app: Project) -> int:
    """Bytes of an unfinished upload that the host holds."""
    sizes = app.box.run(f"stat -c %s {STATE}/artifacts/*.part").stdout.split()
    return sum(map(int, sizes))


def upload_comes_to(app: Project, least: int) -> None:
    until(lambda: uploaded(app) >= least, "the upload is under way", 120)


@contextmanager
def slow_link(box: Sandbox) -> Iterator[None]:
    """The way to the host carries 30 Mbit/s, so that an upload can be met while it is under way."""
    device = box.slot.host_link
    shape = ["tbf", "rate", "30mbit", "burst", "64kb", "latency", "200ms"]
    subprocess.run(["tc", "qdisc", "replace", "dev", device, "root", *shape], check=True)
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", device, "root"], check=False)


def check_state_after_cut_upload(app: Project, before: str) -> None:
    told = app.status()
    assert (told["live"]["release"], told["lock"]) == (before, None)
    assert told["health"]["ok"]
    assert on_host(app.box, f"readlink {STATE}/live") == f"releases/{before}"


@needs_root
def test_an_upload_that_is_cut_is_resumed_by_the_next_push(
    app: Project, artifacts: dict[int, Path], tmp_path: Path
) -> None:
    before, release = app.live(), heavier(artifacts[1], tmp_path)
    change(app)
    with slow_link(app.box):
        running = start(app, release)
        upload_comes_to(app, 4_000_000)
        with cut(app.box, "host"):
            told = ended(running)
    assert (told.code, "cannot reach the host" in told.out) == (1, True), told.out
    check_state_after_cut_upload(app, before)
    kept = uploaded(app)

    again = app.push(release)

    assert again["result"] == "live"
    assert kept >= 4_000_000
    assert 0 < again["bytes_sent"] <= 24_100_000 - kept
    check_sound(app, again["release"])


@pytest.mark.full
@needs_root
def test_an_upload_outlives_a_short_outage(app: Project, artifacts: dict[int, Path], tmp_path: Path) -> None:
    release = heavier(artifacts[2], tmp_path)
    change(app)
    with slow_link(app.box):
        running = start(app, release)
        upload_comes_to(app, 1)
        with cut(app.box, "host"):
            time.sleep(4)
        told = ended(running)

    assert told.code == 0, told.out
    check_sound(app, version(app)["release"])


@needs_root
@pytest.mark.parametrize(
    "seconds", [3.0, pytest.param(SSH_GIVES_UP, marks=pytest.mark.full)], ids=["briefly", "beyond the patience of ssh"]
)
def test_a_cut_during_the_switch_does_not_stop_it(app: Project, artifacts: dict[int, Path], seconds: float) -> None:
    before = app.live()
    running = begin(app, artifacts[2], phase="health", HELLO_SLOW_BOOT_MS="2000")

    with cut(app.box, "host"):
        time.sleep(seconds)

    told = ended(running)
    assert told.code == 0, told.out
    attached = app.deploy("attach", "--json").json
    assert (attached["result"], attached["previous"]) == ("live", before)
    check_sound(app, attached["release"])
    check_next_push(app, artifacts[2])


# ---------------------------------------------------------------------------------------------- two at once


def test_of_two_pushes_at_once_one_wins_and_the_other_is_told_who(
    app: Project, artifacts: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEPORT_PERFORMER", "anna")
    running = begin(app, artifacts[1], phase="migrate", HELLO_SLOW_MIGRATION_MS="25000")
    other = new_project(tmp_path / "other", app.box)
    change(other)
    monkeypatch.setenv("HOMEPORT_PERFORMER", "otto")

    refused = other.deploy("push", "--artifact", artifacts[1], "--json", check=False)

    assert refused.code == 4, refused.err
    assert re.search(r"anna \(from .+\) is at work on hello: push, step \w+", refused.json["error"]["what"])
    assert "--lock-wait" in refused.json["error"]["fix"]
    assert other.deploy("rollback", check=False).code == 4
    waited = other.deploy("push", "--artifact", artifacts[1], "--lock-wait", "60", "--json").json
    first = ended(running)
    assert first.code == 0, first.out
    assert waited["result"] == "live"
    assert waited["previous"] in first.out
    check_sound(app, waited["release"])


@pytest.mark.full
def test_two_pushes_begun_at_the_same_moment_do_not_harm_each_other(
    app: Project, artifacts: dict[int, Path], tmp_path: Path
) -> None:
    other = new_project(tmp_path / "other", app.box)
    change(app, HELLO_SLOW_MIGRATION_MS="6000")
    change(other, HELLO_SLOW_MIGRATION_MS="6000")

    both = [start(each, artifacts[2]) for each in (app, other)]

    told = [ended(each) for each in both]
    assert sorted(each.code for each in told) == [0, 4], [each.out for each in told]
    check_sound(app, version(app)["release"])


def test_a_lock_taken_by_hand_keeps_others_out_until_it_is_released(
    app: Project, artifacts: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEPORT_PERFORMER", "anna")
    app.deploy("lock", "acquire", "-m", "database maintenance until noon")
    monkeypatch.setenv("HOMEPORT_PERFORMER", "otto")
    change(app)

    refused = app.deploy("push", "--artifact", artifacts[1], "--lock-wait", "1", "--json", check=False)

    assert refused.code == 4
    told = refused.json["error"]["what"]
    assert re.search(r"anna .*since 20\d\d-\d\d-\d\d.*: database maintenance until noon", told), told
    assert refused.json["error"]["fix"] == "deploy lock release"
    assert app.deploy("rollback", check=False).code == 4
    shown = app.deploy("lock", "status").out
    assert re.match(r"anna from .+ since 20\d\d-.*: database maintenance until noon", shown), shown
    assert app.deploy("lock", "release", check=False).code == 4
    app.deploy("lock", "release", "--force")
    assert app.deploy("lock", "status").out == "free\n"
    assert app.push(artifacts[1])["result"] == "live"


# ---------------------------------------------------------------------------------------------- what is told


def state(app: Project) -> str:
    """Every file of the app, of systemd and of Homeport on the host, with owner, mode, size and time."""
    where = f"/srv /var/lib/homeport /var/lib/{APP} /etc /usr/local /home"
    bytecode = "-name __pycache__ -prune -o -path /usr/local/lib/homeport/hostctl* -prune"
    files = on_host(app.box, f"find {where} {bytecode} -o -printf '%p %m %u %g %s %T@ %l\\n' | sort")
    return files + on_host(app.box, f"systemctl list-units --plain --no-legend '{APP}@*' 'homeport-*'")


def test_a_plan_changes_nothing_and_says_what_would_happen(app: Project, artifacts: dict[int, Path]) -> None:
    app.push(artifacts[1])
    settled(app)
    change(app)
    before = state(app)

    planned = app.deploy("push", "--plan", "--artifact", artifacts[2], "--json").json
    shown = app.deploy("push", "--plan", "--artifact", artifacts[2]).out

    assert state(app) == before
    assert planned["previous"] == app.live()
    assert "env.clear.GREETING" in planned["changed_keys"]
    assert (planned["unchanged"], planned["restart"]) == (False, False)
    assert "GREETING" in shown


def test_pushing_what_is_live_changes_nothing_and_says_so(app: Project, artifacts: dict[int, Path]) -> None:
    change(app)
    release = app.push(artifacts[2])["release"]
    settled(app)
    before = state(app)

    again = app.deploy("push", "--artifact", artifacts[2], "--json").json
    told = app.deploy("push", "--artifact", artifacts[2]).err
    planned = app.deploy("push", "--plan", "--artifact", artifacts[2], "--json").json

    assert (again["result"], again["release"], again["bytes_sent"]) == ("unchanged", release, 0)
    assert f"{release} is live already" in told
    assert planned["unchanged"]
    assert state(app) == before


def test_every_verb_that_tells_agrees_on_what_was_done(
    app: Project, artifacts: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEPORT_PERFORMER", "anna")
    change(app)
    done = app.push(artifacts[1])

    last = app.deploy("audit", "-n", "1", "--json").json
    entry = last[-1]
    assert (entry["who"], entry["verb"], entry["release"], entry["result"]) == ("anna", "push", done["release"], "live")
    assert re.match(r"20\d\d-\d\d-\d\dT", entry["at"])
    assert f"anna  {entry['from']}  push  {done['release']}  live" in app.deploy("audit").out

    newest = app.deploy("releases", "--json").json[0]
    assert (newest["release"], newest["state"], newest["who"]) == (done["release"], "live", "anna")
    assert newest["git"]["sha"]
    assert newest["size"] > 1_000_000
    assert done["release"] in app.deploy("releases").out.splitlines()[1]

    attached: Json = app.deploy("attach", "--json").json
    assert {key: attached[key] for key in ("result", "release", "previous")} == {
        key: done[key] for key in ("result", "release", "previous")
    }
    names = {step["name"] for step in attached["steps"]}
    assert {"unpack", "migrate", "start", "health", "flip", "verify", "live"} <= names

    shown = app.deploy("logs", "-n", "50", "--release", done["release"]).out
    assert APP in shown
    assert app.deploy("logs", "--release", "19990101T000000Z", check=False).code == 2


# ---------------------------------------------------------------------------------------------- secrets


def laptop_files_with(marker: str, since: Path) -> str:
    """Files written since then, where `deploy` writes anything on the laptop, that hold the marker."""
    places = [platformdirs.user_cache_dir("homeport"), "/tmp", "/dev/shm", "/var/tmp", str(Path.home() / ".ansible")]
    there = [place for place in places if Path(place).exists()]
    find = ["find", *there, "-newer", str(since), "-type", "f", "-size", "-20M", "-exec"]
    return subprocess.run([*find, "grep", "-lF", marker, "{}", "+"], capture_output=True, text=True).stdout


def test_a_secret_reaches_the_app_and_nobody_else(app: Project, artifacts: dict[int, Path], tmp_path: Path) -> None:
    marker = f"mark{secrets.token_hex(12)}"
    (tmp_path / "began").touch()
    app.configure(env={"secret": ["API_TOKEN"], "clear": {"GREETING": secrets.token_hex(4)}})
    with watching([marker]) as seen:
        done = app.deploy("-v", "push", "--artifact", artifacts[1], "--json", env={"API_TOKEN": marker})
        planned = app.deploy("-v", "push", "--plan", "--artifact", artifacts[1], env={"API_TOKEN": marker})
    release = done.json["release"]
    unit = f"{APP}@{release}.service"
    verbs = ("config", "status", "attach", "releases", "audit", "logs")
    told = [app.deploy("-v", verb, check=False) for verb in verbs]

    assert on_host(app.box, f"tr '\\0' '\\n' </proc/$(systemctl show -P MainPID {unit})/environ | grep ^API_") == (
        f"API_TOKEN={marker}"
    )
    assert seen == []
    assert [each for each in (done, planned, *told) if marker in each.out + each.err] == []
    everywhere = "/etc /var /srv /home /root /run /tmp /dev/shm /usr/local"
    held = app.box.run(f"grep -rlF {marker} {everywhere}").stdout
    assert sorted(held.split()) == [f"/run/credentials/{unit}/{name}" for name in ("environment", "secret_API_TOKEN")]
    assert on_host(app.box, f"journalctl -o export --no-pager | grep -cF {marker[:14]} || true") == "0"
    assert on_host(app.box, f"systemctl show {unit} | grep -c {marker[:14]} || true") == "0"
    assert laptop_files_with(marker, tmp_path / "began") == ""


def test_a_secret_that_is_not_given_again_keeps_its_value(app: Project, artifacts: dict[int, Path]) -> None:
    value = secrets.token_hex(12)
    app.configure(env={"secret": ["KEPT_TOKEN"], "clear": {"GREETING": "one"}})
    app.deploy("push", "--artifact", artifacts[1], env={"KEPT_TOKEN": value})
    app.configure(env={"secret": ["KEPT_TOKEN"], "clear": {"GREETING": secrets.token_hex(4)}})

    release = app.push(artifacts[1])["release"]

    assert on_host(app.box, f"cat /run/credentials/{APP}@{release}.service/secret_KEPT_TOKEN") == value


def test_a_secret_that_nobody_gave_is_refused_with_exit_status_2(app: Project, artifacts: dict[int, Path]) -> None:
    before = app.live()
    app.configure(env={"secret": ["NEVER_GIVEN"]})

    refused = app.deploy("push", "--artifact", artifacts[1], "--json", check=False)

    assert refused.code == 2
    assert "NEVER_GIVEN" in refused.json["error"]["what"]
    assert refused.json["error"]["fix"]
    check_sound(app, before)
