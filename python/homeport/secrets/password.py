"""The password that opens deploy.secrets.yml: from the environment, or from the one place that deploy.yml names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from homeport.config.layers import Loaded
from homeport.config.secret_names import without_secrets
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.secrets import commands
from hostctl.common import files

# the service under which the keyring knows it; the entry is `secrets.keyring`
SERVICE = "homeport"
# a shorter one can be guessed, by anybody who has the repository
LEAST_CHARACTERS = 16


def find(loaded: Loaded, environ: Mapping[str, str]) -> SecretStr:
    """The password, which from now on no output shows. Raises HomeportError (exit code 2) where none can be had."""
    found = SecretStr(_found(loaded, environ))
    redact.learn({"vault password": found})
    return found


def _found(loaded: Loaded, environ: Mapping[str, str]) -> str:
    told = loaded.config.secrets
    if text := environ.get(told.password_env):
        return text.strip()
    if told.password_file:
        return _of_file(loaded.path(told.password_file))
    if told.password_command:
        where = _place(loaded, "password_command")
        clean = without_secrets(loaded.config, environ)
        return commands.output(told.password_command, "the vault password", where, clean).strip()
    if told.keyring:
        return _of_keyring(loaded, told.keyring)
    raise _refused(
        "there is no password to open it with",
        str(loaded.secrets_files[0]),
        f"export {told.password_env}, or set secrets.password_file, .password_command or .keyring in {loaded.file}",
    )


def source(loaded: Loaded, environ: Mapping[str, str]) -> str:
    """Which key of `secrets` tells the password here: that of the first place that `find` looks at."""
    told = loaded.config.secrets
    keys = ("password_file", "password_command", "keyring")
    given = next((key for key in keys if getattr(told, key)), "password_env")
    return "password_env" if environ.get(told.password_env) else given


def too_short(password: str) -> str:
    """Why this is no password for a new start; empty if it is one."""
    few = f"has fewer than {LEAST_CHARACTERS} characters, and whoever has the repository can guess as long as he likes"
    return few if len(password.strip()) < LEAST_CHARACTERS else ""


def put_aside(loaded: Loaded, key: str, password: str) -> None:
    """Write the new password beside the old one, before anything is encrypted with it: a killed run loses neither."""
    if key == "password_file":
        files.write_atomic(aside(loaded), f"{password}\n".encode())


def keep(loaded: Loaded, key: str, password: str) -> None:
    """Put the new password in the place of the old one, where that is a place of ours to write to."""
    told = loaded.config.secrets
    if key == "password_file":
        aside(loaded).replace(_file(loaded))
        files.sync_directory(_file(loaded).parent)
    if key == "keyring" and told.keyring:
        _keyring(loaded, lambda library: library.set_password(SERVICE, told.keyring, password))


def pending(loaded: Loaded) -> SecretStr | None:
    """The new password of a rotation that did not come to its end."""
    there = loaded.config.secrets.password_file and aside(loaded).exists()
    return SecretStr(_of_file(aside(loaded))) if there else None


def aside(loaded: Loaded) -> Path:
    """Where a new password lies until everything is encrypted with it."""
    return _file(loaded).with_name(f"{_file(loaded).name}.next")


def _file(loaded: Loaded) -> Path:
    return loaded.path(loaded.config.secrets.password_file or "").resolve()


def _of_file(path: Path) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        fix = f"put the team's password there, or make one: (umask 077; openssl rand -base64 32 > {path})"
        raise _refused("there is no vault password file", str(path), fix) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _refused(f"the vault password cannot be read: {reason}", str(path), "check its permissions") from None
    except UnicodeDecodeError:
        raise _refused("the vault password is not UTF-8", str(path), "save it as UTF-8") from None
    if mode & 0o077:
        raise _refused("others may read the vault password", str(path), f"chmod 600 {path}")
    if not text:
        raise _refused("the vault password file is empty", str(path), "put the team's password there")
    return text


def _of_keyring(loaded: Loaded, entry: str) -> str:
    found = _keyring(loaded, lambda library: library.get_password(SERVICE, entry))
    if not found:
        what = f"the keyring has no entry {entry} of the service {SERVICE}"
        raise _refused(what, _place(loaded, "keyring"), f"keyring set {SERVICE} {entry}")
    return str(found)


def _keyring(loaded: Loaded, use: Any) -> Any:
    """What `use` makes of the library. Raises HomeportError where it is not installed, or finds no keyring."""
    where = _place(loaded, "keyring")
    try:
        library = import_module("keyring")
    except ImportError:
        fix = "pipx inject homeport keyring, or pip install 'homeport[keyring]'"
        raise _refused("the library that asks the keyring is not installed", where, fix) from None
    try:
        return use(library)
    except import_module("keyring.errors").KeyringError as error:
        what = f"the keyring cannot be asked: {type(error).__name__}"
        fix = f"unlock it, or export {loaded.config.secrets.password_env} where there is none"
        raise _refused(what, where, fix) from None


def _place(loaded: Loaded, key: str) -> str:
    return f"{loaded.origin[f'secrets.{key}']} secrets.{key}"


def _refused(what: str, where: str, fix: str) -> HomeportError:
    return HomeportError(what, where, fix, ExitCode.USAGE)
