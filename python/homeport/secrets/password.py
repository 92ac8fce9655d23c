"""The vault password of deploy.secrets.yml: from the environment, or from the place that deploy.yml names."""

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
# anybody who has the repository can guess a shorter one
LEAST_CHARACTERS = 16


def find(loaded: Loaded, environ: Mapping[str, str]) -> SecretStr:
    """The password; it is redacted in all output from now on. Raises HomeportError (usage) if there is none."""
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
        "there is no vault password",
        str(loaded.secrets_files[0]),
        f"export {told.password_env}, or set secrets.password_file, .password_command or .keyring in {loaded.file}",
    )


def source(loaded: Loaded, environ: Mapping[str, str]) -> str:
    """The key of `secrets` by which `find` gets the password on this machine."""
    told = loaded.config.secrets
    keys = ("password_file", "password_command", "keyring")
    given = next((key for key in keys if getattr(told, key)), "password_env")
    return "password_env" if environ.get(told.password_env) else given


def too_short(password: str) -> str:
    """Why this cannot be a new password; "" if it can."""
    few = f"has fewer than {LEAST_CHARACTERS} characters, which anybody with the repository could guess"
    return few if len(password.strip()) < LEAST_CHARACTERS else ""


def put_aside(loaded: Loaded, key: str, password: str) -> None:
    """Write the new password beside the old one before it is used, so that a killed run loses neither."""
    if key == "password_file":
        files.write_atomic(aside(loaded), f"{password}\n".encode())


def keep(loaded: Loaded, key: str, password: str) -> None:
    """Replace the old password by the new one, if it is in a file or the keyring."""
    told = loaded.config.secrets
    if key == "password_file":
        aside(loaded).replace(_file(loaded))
        files.sync_directory(_file(loaded).parent)
    if key == "keyring" and told.keyring:
        _keyring(loaded, lambda library: library.set_password(SERVICE, told.keyring, password))


def pending(loaded: Loaded) -> SecretStr | None:
    """The new password of an interrupted rotation; None without one."""
    there = loaded.config.secrets.password_file and aside(loaded).exists()
    return SecretStr(_of_file(aside(loaded))) if there else None


def aside(loaded: Loaded) -> Path:
    """The file of a new password until all files are encrypted with it."""
    return _file(loaded).with_name(f"{_file(loaded).name}.next")


def _file(loaded: Loaded) -> Path:
    return loaded.path(loaded.config.secrets.password_file or "").resolve()


def _of_file(path: Path) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        fix = f"write the team's password into it, or create one: (umask 077; openssl rand -base64 32 > {path})"
        raise _refused("there is no vault password file", str(path), fix) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _refused(f"the vault password cannot be read: {reason}", str(path), "check its permissions") from None
    except UnicodeDecodeError:
        raise _refused("the vault password is not UTF-8", str(path), "save it as UTF-8") from None
    if mode & 0o077:
        raise _refused("others may read the vault password", str(path), f"chmod 600 {path}")
    if not text:
        raise _refused("the vault password file is empty", str(path), "write the team's password into it")
    return text


def _of_keyring(loaded: Loaded, entry: str) -> str:
    found = _keyring(loaded, lambda library: library.get_password(SERVICE, entry))
    if not found:
        what = f"the keyring has no entry {entry} of the service {SERVICE}"
        raise _refused(what, _place(loaded, "keyring"), f"keyring set {SERVICE} {entry}")
    return str(found)


def _keyring(loaded: Loaded, use: Any) -> Any:
    """The result of `use` with the library keyring. Raises HomeportError if it is not installed or finds no keyring."""
    where = _place(loaded, "keyring")
    try:
        library = import_module("keyring")
    except ImportError:
        fix = "pipx inject homeport keyring, or pip install 'homeport[keyring]'"
        raise _refused("the Python library keyring is not installed", where, fix) from None
    try:
        return use(library)
    except import_module("keyring.errors").KeyringError as error:
        what = f"the keyring cannot be read: {type(error).__name__}"
        fix = f"unlock it, or without a keyring: export {loaded.config.secrets.password_env}"
        raise _refused(what, where, fix) from None


def _place(loaded: Loaded, key: str) -> str:
    return f"{loaded.origin[f'secrets.{key}']} secrets.{key}"


def _refused(what: str, where: str, fix: str) -> HomeportError:
    return HomeportError(what, where, fix, ExitCode.USAGE)
