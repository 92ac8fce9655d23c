"""Ansible Vault's format: what it writes is read, what is broken is told."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.secrets import ansible_vault


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_what_was_sealed_opens_with_the_same_password(text: str, password: str) -> None:
    assert ansible_vault.unseal(ansible_vault.seal(text, password), password) == text


def test_ansible_vault_itself_opens_it(tmp_path: Path) -> None:
    (tmp_path / "sealed").write_bytes(ansible_vault.seal("A: ünïcode\n", "a password"))
    (tmp_path / "password").write_text("a password\n")

    program = Path(sys.executable).with_name("ansible-vault")
    words = [program, "view", "--vault-password-file", tmp_path / "password", tmp_path / "sealed"]
    assert subprocess.check_output(words, text=True).strip() == "A: ünïcode"


def test_what_ansible_vault_wrote_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("A: b\n")
    (tmp_path / "password").write_text("a password\n")
    program = Path(sys.executable).with_name("ansible-vault")
    label = ["--vault-id", f"production@{tmp_path / 'password'}"]
    subprocess.run([program, "encrypt", *label, tmp_path / "file"], check=True, capture_output=True)

    assert ansible_vault.unseal((tmp_path / "file").read_bytes(), "a password") == "A: b\n"


def test_the_same_text_never_looks_the_same_twice() -> None:
    assert ansible_vault.seal("A: b\n", "a password") != ansible_vault.seal("A: b\n", "a password")


def test_a_wrong_password_is_refused() -> None:
    with pytest.raises(ansible_vault.RefusedError):
        ansible_vault.unseal(ansible_vault.seal("A: b\n", "a password"), "another one")


SEALED = ansible_vault.seal("NAME: value\n", "a password")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SEALED) - 1))
def test_a_file_that_was_cut_off_is_told_and_never_half_read(length: int) -> None:
    cut = SEALED[:length]
    if ansible_vault.is_sealed(cut) and cut.strip() != SEALED.strip():
        with pytest.raises((ansible_vault.RefusedError, ansible_vault.DamagedError)):
            ansible_vault.unseal(cut, "a password")


@settings(max_examples=60, deadline=None)
@given(st.integers(len(ansible_vault.HEADER), len(SEALED) - 2), st.integers(0, 255))
def test_a_changed_byte_never_gives_another_text(at: int, byte: int) -> None:
    changed = SEALED[:at] + bytes([byte]) + SEALED[at + 1 :]
    with suppress(ansible_vault.RefusedError, ansible_vault.DamagedError):
        assert ansible_vault.unseal(changed, "a password") == "NAME: value\n"


def test_nothing_is_encrypted_that_does_not_say_so() -> None:
    assert not ansible_vault.is_sealed(b"NAME: value\n")
    assert ansible_vault.is_sealed(SEALED)
