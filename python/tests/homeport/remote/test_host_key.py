"""Pinning a host's key: nobody is trusted without a word from a person."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from homeport.core.errors import ExitCode, HomeportError
from homeport.remote import host_key


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, bytes, str]:
    """A real key: its type, its bytes, and the fingerprint that ssh-keygen prints."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    kind, encoded = (tmp_path / "k.pub").read_text().split()[:2]
    said = subprocess.run(["ssh-keygen", "-lf", tmp_path / "k.pub"], capture_output=True, text=True, check=True).stdout
    return kind, host_key.base64.b64decode(encoded), said.split()[1]


def test_the_fingerprint_is_the_one_that_ssh_prints(key: tuple[str, bytes, str]) -> None:
    assert host_key.fingerprint(key[1]) == key[2]


@pytest.mark.parametrize("where", [("203.0.113.9", 22), ("203.0.113.9", 2222), ("2001:db8::1", 22), ("web", 22)])
def test_a_pinned_key_is_found_again_by_ssh_itself(
    tmp_path: Path, key: tuple[str, bytes, str], where: tuple[str, int]
) -> None:
    known = tmp_path / "deploy.known_hosts"
    assert not host_key.is_pinned(known, where)
    host_key.write(known, where, key[0], key[1])
    assert host_key.is_pinned(known, where)


def test_pinning_again_replaces_the_hosts_key_and_keeps_those_of_others(
    tmp_path: Path, key: tuple[str, bytes, str]
) -> None:
    known = tmp_path / "deploy.known_hosts"
    known.write_text("other ssh-ed25519 AAAA\n203.0.113.9 ssh-ed25519 OLD\n")
    host_key.write(known, ("203.0.113.9", 22), key[0], key[1])
    lines = known.read_text().splitlines()
    assert lines[0] == "other ssh-ed25519 AAAA"
    assert len(lines) == 2
    assert "OLD" not in lines[1]


def test_without_a_terminal_the_key_is_shown_and_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(HomeportError) as raised:
        host_key._confirm("web", "ssh-ed25519", "SHA256:abc", None)
    assert raised.value.code == ExitCode.USAGE
    assert "--accept-host-key SHA256:abc" in raised.value.fix


def test_a_key_other_than_the_accepted_one_needs_a_person() -> None:
    with pytest.raises(HomeportError) as raised:
        host_key._confirm("web", "ssh-ed25519", "SHA256:abc", "SHA256:xyz")
    assert raised.value.code == ExitCode.PERSON


def test_the_accepted_key_is_taken() -> None:
    host_key._confirm("web", "ssh-ed25519", "SHA256:abc", "SHA256:abc")
