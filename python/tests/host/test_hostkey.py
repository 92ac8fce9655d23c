"""Pinning the key of a real sshd: the one it shows, only when it is the one that was to be expected."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from homeport.core.errors import ExitCode, HomeportError
from homeport.remote import host_key
from homeport.sandbox import Sandbox
from homeport.screen.screen import Screen
from homeport.ssh import connection

pytestmark = pytest.mark.host


@pytest.fixture
def target(box: Sandbox, tmp_path: Path) -> connection.Target:
    """Root on the host, with no key pinned yet."""
    return connection.Target(box.address, "root", tmp_path / "deploy.known_hosts", None, box.key)


def shown(box: Sandbox) -> str:
    """The fingerprint that ssh-keygen reads on the host itself, as a provider's console would tell it."""
    said = box.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").stdout
    return str(said).split()[1]


def test_the_expected_key_is_pinned_and_ssh_then_logs_in(box: Sandbox, target: connection.Target) -> None:
    host_key.pin(target, shown(box), Screen(io.StringIO()))
    status, out, _ = connection.run(target, ["id", "-un"])
    connection.close(target)
    assert (status, out) == (0, b"root\n")


def test_another_key_than_the_expected_one_is_not_pinned(target: connection.Target) -> None:
    with pytest.raises(HomeportError) as raised:
        host_key.pin(target, "SHA256:" + "A" * 43, Screen(io.StringIO()))
    assert raised.value.code == ExitCode.PERSON
    assert not target.known_hosts.exists()


def test_a_host_that_is_not_pinned_is_not_logged_in_to(target: connection.Target) -> None:
    with pytest.raises(connection.UnreachableError, match="not pinned"):
        connection.run(target, ["true"])


def test_a_host_that_was_rebuilt_is_refused_until_it_is_pinned_again(
    box: Sandbox, target: connection.Target, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    target.known_hosts.write_text(f"{box.address} {kind} {key}\n")
    with pytest.raises(connection.UnreachableError, match="another key"):
        connection.run(target, ["true"])
    host_key.pin(target, shown(box), Screen(io.StringIO()), repin=True)
    assert connection.run(target, ["true"])[0] == 0
    connection.close(target)
