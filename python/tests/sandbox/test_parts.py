from __future__ import annotations

import fcntl
import ipaddress
import itertools
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from homeport.sandbox import control_groups, durable, image, leftovers, tree
from homeport.sandbox.certificates import issue
from homeport.sandbox.model import MARKER
from homeport.sandbox.sources import Source


def test_the_services_certificate_names_their_address_and_is_signed_by_their_authority() -> None:
    issued = issue("198.51.100.11")
    ca, server = (x509.load_pem_x509_certificate(text.encode()) for text in (issued.ca, issued.certificate))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("198.51.100.11")]
    server.verify_directly_issued_by(ca)
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_another_suite_or_archive_is_another_tree() -> None:
    archive = Source("http://a.example/debian", "trixie", ("main",))
    other = Source("http://b.example/debian", "trixie", ("main",))
    keys = {image.key("trixie", [archive]), image.key("bookworm", [archive]), image.key("trixie", [other])}
    assert len(keys) == 3
    assert image.key("trixie", [archive]) in keys


def test_a_stub_resolver_is_replaced_by_the_servers_behind_it(tmp_path: Path) -> None:
    for name, text in (
        ("etc", "nameserver 127.0.0.53\n"),
        ("run/systemd/resolve", "nameserver 192.0.2.53\n"),
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "resolv.conf").write_text(text)
    assert tree.name_servers(tmp_path) == "nameserver 192.0.2.53\n"


def test_a_resolver_that_can_be_reached_is_kept(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    assert tree.name_servers(tmp_path) == "nameserver 192.0.2.1\n"


def test_processes_are_found_by_their_marker_and_ended() -> None:
    process = subprocess.Popen(["sleep", "60"], env={MARKER: "t-parts"})
    other = subprocess.Popen(["sleep", "60"], env={MARKER: "t-parts2"})
    try:
        assert leftovers.processes("t-parts") == {process.pid}
        leftovers.kill("t-parts")
        assert process.wait(5) == -9
        assert other.poll() is None
    finally:
        for each in (process, other):
            each.kill()
            each.wait()


def test_a_process_that_is_just_becoming_another_program_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    environment, looks = leftovers._environment, itertools.count()
    process = subprocess.Popen(["sleep", "60"], env={MARKER: "t-parts"})
    monkeypatch.setattr(leftovers, "_environment", lambda pid: environment(pid) if next(looks) else [])
    monkeypatch.setattr(leftovers, "_pids", lambda: [process.pid])
    try:
        leftovers.kill("t-parts")
        assert process.wait(5) == -9
    finally:
        process.kill()
        process.wait()


def test_both_layouts_of_control_groups_are_understood() -> None:
    hybrid = (
        "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
        "cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )
    found = [str(point) for point in control_groups.hierarchies(hybrid)]
    assert found == ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
    unified = control_groups.hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    assert unified == [Path("/sys/fs/cgroup")]


def test_locks_that_nobody_holds_are_forgotten_and_held_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "LOCKS", tmp_path / "locks")
    with durable.lock("held"):
        with durable.lock("free"):
            pass
        durable.forget_locks()
        assert [path.name for path in (tmp_path / "locks").iterdir()] == ["held.lock"]
    durable.forget_locks()
    assert not (tmp_path / "locks").exists()


def test_a_lock_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "LOCKS", tmp_path / "locks")
    with durable.lock("one"), (tmp_path / "locks/one.lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
