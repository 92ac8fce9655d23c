"""The encrypted files of one configuration: deploy.secrets.yml, and the destination's own over it."""

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
    """The file is encrypted under another password."""


@dataclass(frozen=True)
class Held:
    """A value, and the file that has it."""

    value: SecretStr
    file: Path


@dataclass(frozen=True)
class Opened:
    """A file as it was when it was read: `data` is what is on the disk, None for one that is not there yet."""

    path: Path
    data: bytes | None
    text: str
    password: SecretStr

    @property
    def name(self) -> str:
        return shown(self.path)

    @property
    def encrypted(self) -> bool:
        """Whether it is so on the disk already."""
        return self.data is not None and ansible_vault.is_sealed(self.data)

    @property
    def values(self) -> dict[str, str]:
        """What it holds. Raises ConfigError with every mistake in it."""
        return document.read(self.text, self.name)


def exist(loaded: Loaded) -> bool:
    """Whether there is any such file."""
    return any(path.exists() for path in loaded.secrets_files)


def held(loaded: Loaded, environ: Mapping[str, str]) -> dict[str, Held]:
    """Every value by name, the destination's over the others; nothing, and no password asked for, without a file.

    Raises HomeportError (exit code 2) for a file that cannot be opened.
    """
    found: dict[str, Held] = {}
    for opened in open_all(loaded, environ):
        values = {name: SecretStr(value) for name, value in opened.values.items()}
        redact.learn(values)
        found |= {name: Held(value, opened.path) for name, value in values.items()}
    return found


def open_all(loaded: Loaded, environ: Mapping[str, str]) -> list[Opened]:
    """The files that are there, the later over the earlier. Raises HomeportError (exit code 2)."""
    there = [path for path in loaded.secrets_files if path.exists()]
    if not there:
        return []
    opener = password.find(loaded, environ)
    return [open_one(loaded, path, opener) for path in there]


def open_own(loaded: Loaded, environ: Mapping[str, str], *, plain: bool = False) -> Opened:
    """The file that this destination's values are written to, there or not. `plain`: also one not encrypted yet."""
    path = loaded.secrets_files[-1]
    return open_one(loaded, path, password.find(loaded, environ), plain=plain)


def save(opened: Opened, new: str, opener: SecretStr | None = None) -> None:
    """Encrypt the text and put it in the file's place, whole or not at all.

    Raises ConfigError for a text with mistakes, HomeportError where somebody else has changed the file meanwhile.
    """
    document.read(new, opened.name)
    sealed = ansible_vault.seal(new, (opener or opened.password).get_secret_value())
    path = opened.path.resolve()
    if _bytes(opened.path) != opened.data:
        what = "somebody else has changed it meanwhile, and it stays as it is now"
        raise HomeportError(what, opened.name, "do it again", ExitCode.FAILED)
    try:
        files.write_atomic(path, sealed)
    except OSError as error:
        raise _refused(f"it cannot be written: {_reason(error)}", opened.path, "check its permissions") from None


def shown(path: Path) -> str:
    """The file as a person would name it from here."""
    return min(os.path.relpath(path), str(path), key=len)


def open_one(loaded: Loaded, path: Path, opener: SecretStr, *, plain: bool = False) -> Opened:
    """One file, by this password. Raises HomeportError (exit code 2), a WrongPasswordError for the wrong one."""
    data = _bytes(path)
    if data is None:
        return Opened(path, None, "", opener)
    if b"<<<<<<< " in data:
        fix = f"keep one side (git checkout --ours {shown(path)}), and set again what the other side had"
        raise _refused("the file holds a conflict of two changes, which git could not merge", path, fix)
    if not ansible_vault.is_sealed(data):
        return Opened(path, data, _plain(path, data, plain), opener)
    return Opened(path, data, _unsealed(loaded, path, data, opener), opener)


def _plain(path: Path, data: bytes, allowed: bool) -> str:
    if not allowed:
        fix = "encrypt it: deploy secrets edit, and save; what was committed like this has to be replaced"
        raise _refused("the file is not encrypted: whoever has the repository can read it", path, fix)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused("the file is not UTF-8", path, "save it as UTF-8") from None


def _unsealed(loaded: Loaded, path: Path, data: bytes, opener: SecretStr) -> str:
    try:
        return ansible_vault.unseal(data, opener.get_secret_value())
    except ansible_vault.RefusedError:
        what = "the vault password does not open the file"
        raise WrongPasswordError(what, shown(path), _way_in(loaded), ExitCode.USAGE) from None
    except ansible_vault.DamagedError:
        fix = f"take it from git: git checkout -- {shown(path)}"
        raise _refused("the file is damaged: Ansible Vault did not write it so", path, fix) from None


def _way_in(loaded: Loaded) -> str:
    if loaded.config.secrets.password_file and (beside := password.aside(loaded)).exists():
        return f"a rotation was interrupted ({beside.name} is there); end it: deploy secrets rotate --vault"
    told = loaded.config.secrets
    return f"ask the team for the password, and put it where secrets in {loaded.file} says, or in {told.password_env}"


def _bytes(path: Path) -> bytes | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _refused("this is too large for a file of secrets", path, "take it from git")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(f"it cannot be read: {_reason(error)}", path, "check its permissions") from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refused(what: str, path: Path, fix: str) -> HomeportError:
    return HomeportError(what, shown(path), fix, ExitCode.USAGE)
