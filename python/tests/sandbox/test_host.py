"""The sandbox as it boots: real hosts, named so that they are nobody's."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from homeport.core.errors import HomeportError
from homeport.sandbox import Sandbox, cut, down, get, leftovers, reboot, running, state, up
from homeport.sandbox.control_groups import hierarchies
from homeport.sandbox.services import read_credentials

pytestmark = pytest.mark.host
FIRST, SECOND = "t-sbx1", "t-sbx2"
DEPLOY = [sys.executable, "-m", "homeport.verbs.sandbox"]


@pytest.fixture(scope="module", autouse=True)
def _nothing_left() -> Iterator[None]:
    for name in (FIRST, SECOND):
        down(name)
    yield
    for name in (FIRST, SECOND):
        down(name)


@pytest.fixture
def first() -> Sandbox:
    return up(FIRST)


def s3(sandbox: Sandbox, endpoint: str | None = None) -> Any:
    access, secret = read_credentials(sandbox.credentials)
    style, patience = (
        Config(s3={"addressing_style": "path"}),
        Config(retries={"max_attempts": 0}, connect_timeout=1),
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint or sandbox.endpoint,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        verify=str(sandbox.ca),
        config=style.merge(patience),
    )


def traces(sandbox: Sandbox) -> list[str]:
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    own = (sandbox.slot.host_link, sandbox.slot.services_link)
    found = [link["ifname"] for link in links if link["ifname"] in own]
    paths = [
        sandbox.directory,
        Path("/run/netns", sandbox.namespace),
        Path("/run/netns", sandbox.services_namespace),
    ]
    paths += [point / f"homeport-sandbox-{sandbox.name}" for point in hierarchies(Path("/proc/mounts").read_text())]
    found += [str(path) for path in paths if path.exists()]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(sandbox.directory) in line]
    return found + [str(pid) for pid in leftovers.processes(sandbox.name)]


def eventually(holds: Callable[[], bool], within: float = 30.0) -> bool:
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_the_host_runs_systemd_and_nothing_failed(first: Sandbox) -> None:
    assert first.run("systemctl is-system-running").stdout.strip() == "running"
    assert first.run("readlink -f /proc/1/exe").stdout.strip() == "/usr/lib/systemd/systemd"


def test_the_host_reaches_its_distributions_packages(first: Sandbox) -> None:
    done = first.run("apt-get -qq update && apt-cache policy sqlite3 | grep Candidate")
    assert done.returncode == 0, done.stderr
    assert "(none)" not in done.stdout


def test_no_timer_installs_packages_behind_a_tests_back(first: Sandbox) -> None:
    assert "apt" not in first.run("systemctl list-timers --no-legend").stdout


def test_up_on_a_running_sandbox_changes_nothing(first: Sandbox) -> None:
    before = first.run("cat /proc/sys/kernel/random/boot_id").stdout
    assert up(FIRST) == first
    assert first.run("cat /proc/sys/kernel/random/boot_id").stdout == before


def test_up_with_another_suite_on_a_running_sandbox_is_refused(first: Sandbox) -> None:
    with pytest.raises(HomeportError, match="is up with trixie"):
        up(FIRST, "bookworm")


def test_the_command_prints_the_facts_on_standard_output_alone(first: Sandbox) -> None:
    done = subprocess.run([*DEPLOY, "up", "--name", FIRST, "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout) == first.as_dict()


def test_ssh_gives_the_exit_status_of_the_command(first: Sandbox) -> None:
    done = subprocess.run([*DEPLOY, "ssh", "--name", FIRST, "--", "exit 7"], check=False)
    assert done.returncode == 7


def test_a_host_that_shows_another_key_is_refused(first: Sandbox, tmp_path: Path) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"{first.address} {public}\n")
    argv = [word.replace(str(first.known_hosts), str(tmp_path / "known_hosts")) for word in first.ssh_argv("true")]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 255


def test_many_failed_logins_do_not_lock_this_machine_out(first: Sandbox) -> None:
    argv = [word.replace("root@", "nobody@") for word in first.ssh_argv("true")]
    for _ in range(12):
        assert subprocess.run([*argv], capture_output=True, check=False).returncode == 255
    assert first.run("true").returncode == 0


def test_a_reboot_is_a_new_boot_that_keeps_what_was_written(first: Sandbox) -> None:
    before = first.run("echo kept >/var/kept; cat /proc/sys/kernel/random/boot_id").stdout
    reboot(FIRST)
    after = first.run("cat /proc/sys/kernel/random/boot_id /var/kept").stdout.split()
    assert after[0] != before.strip()
    assert after[1] == "kept"
    assert len(first.run("journalctl --list-boots --quiet").stdout.splitlines()) > 1


def test_a_power_cut_stops_no_unit_and_the_host_boots_again(first: Sandbox) -> None:
    unit = "--unit=t-stop --property=ExecStop='/usr/bin/touch /var/stopped'"
    assert first.run(f"systemd-run {unit} sleep infinity").returncode == 0
    reboot(FIRST, hard=True)
    assert first.run("test -e /var/stopped").returncode == 1
    assert first.run("systemctl is-system-running").stdout.strip() == "running"


def test_s3_gives_back_what_was_put_over_http_and_https(first: Sandbox) -> None:
    for endpoint in (first.endpoint, first.tls_endpoint):
        client = s3(first, endpoint)
        client.put_object(Bucket="homeport", Key="t", Body=b"kept")
        assert client.get_object(Bucket="homeport", Key="t")["Body"].read() == b"kept"


def test_s3_is_cut_off_while_the_host_is_not(first: Sandbox) -> None:
    with cut(first, "services"):
        with pytest.raises(BotoCoreError):
            s3(first).list_buckets()
        assert first.run("true").returncode == 0
    assert eventually(lambda: bool(s3(first).list_buckets()["Buckets"]))


def test_secrets_are_for_their_owner_alone(first: Sandbox) -> None:
    for path in (first.key, first.credentials):
        assert path.stat().st_mode & 0o777 == 0o600
    assert first.machine.stat().st_mode & 0o777 == 0o700
    _, secret = read_credentials(first.credentials)
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in leftovers.processes(FIRST)]
    assert any(b"weed" in line for line in lines)
    assert not any(secret.encode() in line for line in lines)


def test_the_acme_directory_answers_to_who_trusts_its_authority(first: Sandbox) -> None:
    context = ssl.create_default_context(cafile=str(first.ca))
    with urllib.request.urlopen(first.acme_directory, context=context, timeout=5) as answer:
        assert "newOrder" in json.load(answer)
    assert "BEGIN CERTIFICATE" in first.root.read_text()


def test_a_service_that_dies_is_started_again(first: Sandbox) -> None:
    before = first.root.read_text()
    (pebble,) = [pid for pid in leftovers.processes(FIRST) if Path(f"/proc/{pid}/comm").read_text() == "pebble\n"]
    os.kill(pebble, signal.SIGKILL)
    assert eventually(lambda: first.root.read_text() != before)


def test_two_sandboxes_at_once_are_two_hosts(first: Sandbox) -> None:
    second = up(SECOND)
    try:
        assert {first.address, first.services_address}.isdisjoint({second.address, second.services_address})
        assert [each.run("hostname").stdout.strip() for each in (first, second)] == [FIRST, SECOND]
        # each systemd sees its own processes only
        second.run("systemctl stop cron")
        assert first.run("systemctl is-active cron").stdout.strip() == "active"
        assert first.run(f"ping -c1 -W2 {second.address}").returncode == 0
    finally:
        down(SECOND)
    assert first.run("true").returncode == 0
    assert traces(second) == []


def test_after_a_killed_supervisor_up_makes_a_sandbox_that_works(first: Sandbox) -> None:
    known = state.load(FIRST)
    assert known is not None
    os.kill(known.pid, signal.SIGKILL)
    assert eventually(lambda: get(FIRST) != first)
    again = up(FIRST)
    assert again.run("systemctl is-system-running").stdout.strip() == "running"
    assert s3(again).list_buckets()["Buckets"]


def test_services_of_two_sandboxes_share_no_tmp(first: Sandbox) -> None:
    """SeaweedFS finds its own parts by sockets in /tmp that only a port names."""
    (weed,) = [pid for pid in leftovers.processes(FIRST) if Path(f"/proc/{pid}/comm").read_text() == "weed\n"]
    mounted = [line.split()[4] for line in Path(f"/proc/{weed}/mountinfo").read_text().splitlines()]
    assert "/tmp" in mounted
    assert Path(f"/proc/{weed}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()


def test_up_interrupted_on_the_way_leaves_nothing(first: Sandbox) -> None:
    down(FIRST)
    process = subprocess.Popen([*DEPLOY, "up", "--name", FIRST], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "unpack" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert traces(first) == []


def test_down_leaves_no_trace_and_says_so_when_there_is_nothing(first: Sandbox) -> None:
    assert running(FIRST) == first
    assert down(FIRST)
    assert traces(first) == []
    done = subprocess.run([*DEPLOY, "down", "--name", FIRST], capture_output=True, text=True, check=True)
    assert done.stdout == f"sandbox {FIRST} is not up\n"
