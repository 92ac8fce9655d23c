"""The encrypted files of a configuration: deploy.secrets.yml, and the destination's file, which overrides it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from homeport.config.layers import Loaded
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.secrets import ansible_vault, document, password
from hostctl.common import files

# a file of secrets is a few kilobytes
MOST_BYTES = 4 * 2**20


class WrongPasswordError(HomeportError):
    """The file is encrypted with another password."""


@dataclass(frozen=True)
class StoredValue:
    """A value and its file."""

    value: SecretStr
    file: Path


@dataclass(frozen=True)
class SecretsFile:
    """A file of secrets as it was read: `data` are its bytes on disk, None if it does not exist yet."""

    path: Path
    data: bytes | None
    text: str
    password: SecretStr

    @property
    def name(self) -> str:
        return display_path(self.path)

    @property
    def is_encrypted(self) -> bool:
        """Whether the file on disk is encrypted."""
        return self.data is not None and ansible_vault.is_sealed(self.data)

    @property
    def values(self) -> dict[str, str]:
        """The values by name. Raises ConfigError with every mistake in the file."""
        return document.read(self.text, self.name)


def any_exists(loaded: Loaded) -> bool:
    """Whether the configuration has a file of secrets."""
    return any(path.exists() for path in loaded.secrets_files)


def stored_values(loaded: Loaded, environ: Mapping[str, str]) -> dict[str, StoredValue]:
    """Every value by name; the destination's override the others. Empty without a file; then no password is read.

    Raises HomeportError (usage) for a file that cannot be opened.
    """
    stored: dict[str, StoredValue] = {}
    for opened in open_all(loaded, environ):
        values = {name: SecretStr(value) for name, value in opened.values.items()}
        redact.learn(values)
        stored |= {name: StoredValue(value, opened.path) for name, value in values.items()}
    return stored


def open_all(loaded: Loaded, environ: Mapping[str, str]) -> list[SecretsFile]:
    """The existing files, in the order in which later ones override earlier ones. Raises HomeportError (usage)."""
    existing = [path for path in loaded.secrets_files if path.exists()]
    if not existing:
        return []
    vault_password = password.find(loaded, environ)
    return [open_one(loaded, path, vault_password) for path in existing]


def open_own(loaded: Loaded, environ: Mapping[str, str], *, plain: bool = False) -> SecretsFile:
    """The file for this destination's values, which may not exist. `plain`: accept one that is not encrypted yet."""
    path = loaded.secrets_files[-1]
    return open_one(loaded, path, password.find(loaded, environ), plain=plain)


def save(opened: SecretsFile, new: str, vault_password: SecretStr | None = None) -> None:
    """Encrypt the text and replace the file by it atomically.

    Raises ConfigError for a text with mistakes, HomeportError if the file has changed since it was read.
    """
    document.read(new, opened.name)
    sealed = ansible_vault.seal(new, (vault_password or opened.password).get_secret_value())
    path = opened.path.resolve()
    if _bytes(opened.path) != opened.data:
        what = "somebody else has changed the file meanwhile, so it was not written"
        raise HomeportError(what, opened.name, "run the command again", ExitCode.FAILED)
    try:
        files.write_atomic(path, sealed)
    except OSError as error:
        raise _usage_error(f"it cannot be written: {_reason(error)}", opened.path, "check its permissions") from None


def display_path(path: Path) -> str:
    """The path of the file for messages: relative or absolute, whichever is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def open_one(loaded: Loaded, path: Path, vault_password: SecretStr, *, plain: bool = False) -> SecretsFile:
    """Open one file with this password. Raises HomeportError (usage), WrongPasswordError for a wrong password."""
    data = _bytes(path)
    if data is None:
        return SecretsFile(path, None, "", vault_password)
    if b"<<<<<<< " in data:
        fix = f"keep one side (git checkout --ours {display_path(path)}), and set the values of the other side again"
        raise _usage_error("the file has a merge conflict of git", path, fix)
    if not ansible_vault.is_sealed(data):
        return SecretsFile(path, data, _decode(path, data, plain), vault_password)
    return SecretsFile(path, data, _decrypt(loaded, path, data, vault_password), vault_password)


def _decode(path: Path, data: bytes, allowed: bool) -> str:
    if not allowed:
        fix = "encrypt it: deploy secrets edit, and save; replace values that were committed in plain text"
        raise _usage_error("the file is not encrypted: whoever has the repository can read it", path, fix)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _usage_error("the file is not UTF-8", path, "save it as UTF-8") from None


def _decrypt(loaded: Loaded, path: Path, data: bytes, vault_password: SecretStr) -> str:
    try:
        return ansible_vault.unseal(data, vault_password.get_secret_value())
    except ansible_vault.RefusedError:
        what = "the vault password does not open the file"
        raise WrongPasswordError(what, display_path(path), _password_fix(loaded), ExitCode.USAGE) from None
    except ansible_vault.DamagedError:
        fix = f"restore it from git: git checkout -- {display_path(path)}"
        raise _usage_error("the file is damaged: it is not in Ansible Vault's format", path, fix) from None


def _password_fix(loaded: Loaded) -> str:
    sources = loaded.config.secrets
    if sources.password_file and (pending := password.pending_file(loaded)).exists():
        return f"a rotation was interrupted ({pending.name} exists); finish it: deploy secrets rotate --vault"
    return (
        f"ask the team for the password, and put it where secrets in {loaded.file} says, or in {sources.password_env}"
    )


def _bytes(path: Path) -> bytes | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _usage_error("the file is too large for a file of secrets", path, "restore it from git")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _usage_error(f"it cannot be read: {_reason(error)}", path, "check its permissions") from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _usage_error(what: str, path: Path, fix: str) -> HomeportError:
    return HomeportError(what, display_path(path), fix, ExitCode.USAGE)
