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

# the service of the password in the keyring; the entry is `secrets.keyring`
SERVICE = "homeport"
# anybody who has the repository can guess a shorter one
LEAST_CHARACTERS = 16


def find(loaded: Loaded, environ: Mapping[str, str]) -> SecretStr:
    """The password; it is redacted in all output from now on. Raises HomeportError (usage) if there is none."""
    password = SecretStr(_look_up(loaded, environ))
    redact.learn({"vault password": password})
    return password


def _look_up(loaded: Loaded, environ: Mapping[str, str]) -> str:
    sources = loaded.config.secrets
    if text := environ.get(sources.password_env):
        return text.strip()
    if sources.password_file:
        return _read_file(loaded.path(sources.password_file))
    if sources.password_command:
        where = _origin(loaded, "password_command")
        clean = without_secrets(loaded.config, environ)
        return commands.output(sources.password_command, "the vault password", where, clean).strip()
    if sources.keyring:
        return _read_keyring(loaded, sources.keyring)
    raise _usage_error(
        "there is no vault password",
        str(loaded.secrets_files[0]),
        f"export {sources.password_env}, or set secrets.password_file, .password_command or .keyring in {loaded.file}",
    )


def source(loaded: Loaded, environ: Mapping[str, str]) -> str:
    """The key of `secrets` by which `find` gets the password on this machine."""
    sources = loaded.config.secrets
    keys = ("password_file", "password_command", "keyring")
    configured = next((key for key in keys if getattr(sources, key)), "password_env")
    return "password_env" if environ.get(sources.password_env) else configured


def length_mistake(password: str) -> str:
    """Why the text is too short for a new password; "" if it is long enough."""
    mistake = f"has fewer than {LEAST_CHARACTERS} characters, which anybody with the repository could guess"
    return mistake if len(password.strip()) < LEAST_CHARACTERS else ""


def write_pending(loaded: Loaded, key: str, password: str) -> None:
    """Write the new password beside the old one before it is used, so that a killed run loses neither."""
    if key == "password_file":
        files.write_atomic(pending_file(loaded), f"{password}\n".encode())


def replace(loaded: Loaded, key: str, password: str) -> None:
    """Replace the old password by the new one, if it is in a file or the keyring."""
    sources = loaded.config.secrets
    if key == "password_file":
        pending_file(loaded).replace(_file(loaded))
        files.sync_directory(_file(loaded).parent)
    if key == "keyring" and sources.keyring:
        _keyring(loaded, lambda library: library.set_password(SERVICE, sources.keyring, password))


def pending_password(loaded: Loaded) -> SecretStr | None:
    """The new password of an interrupted rotation; None without one."""
    exists = loaded.config.secrets.password_file and pending_file(loaded).exists()
    return SecretStr(_read_file(pending_file(loaded))) if exists else None


def pending_file(loaded: Loaded) -> Path:
    """The file of a new password until all files are encrypted with it."""
    return _file(loaded).with_name(f"{_file(loaded).name}.next")


def _file(loaded: Loaded) -> Path:
    return loaded.path(loaded.config.secrets.password_file or "").resolve()


def _read_file(path: Path) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        fix = f"write the team's password into it, or create one: (umask 077; openssl rand -base64 32 > {path})"
        raise _usage_error("there is no vault password file", str(path), fix) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _usage_error(f"the vault password cannot be read: {reason}", str(path), "check its permissions") from None
    except UnicodeDecodeError:
        raise _usage_error("the vault password is not UTF-8", str(path), "save it as UTF-8") from None
    if mode & 0o077:
        raise _usage_error("others may read the vault password", str(path), f"chmod 600 {path}")
    if not text:
        raise _usage_error("the vault password file is empty", str(path), "write the team's password into it")
    return text


def _read_keyring(loaded: Loaded, entry: str) -> str:
    password = _keyring(loaded, lambda library: library.get_password(SERVICE, entry))
    if not password:
        what = f"the keyring has no entry {entry} of the service {SERVICE}"
        raise _usage_error(what, _origin(loaded, "keyring"), f"keyring set {SERVICE} {entry}")
    return str(password)


def _keyring(loaded: Loaded, use: Any) -> Any:
    """The result of `use` with the library keyring. Raises HomeportError if it is not installed or finds no keyring."""
    where = _origin(loaded, "keyring")
    try:
        library = import_module("keyring")
    except ImportError:
        fix = "pipx inject homeport keyring, or pip install 'homeport[keyring]'"
        raise _usage_error("the Python library keyring is not installed", where, fix) from None
    try:
        return use(library)
    except import_module("keyring.errors").KeyringError as error:
        what = f"the keyring cannot be read: {type(error).__name__}"
        fix = f"unlock it, or without a keyring: export {loaded.config.secrets.password_env}"
        raise _usage_error(what, where, fix) from None


def _origin(loaded: Loaded, key: str) -> str:
    return f"{loaded.origin[f'secrets.{key}']} secrets.{key}"


def _usage_error(what: str, where: str, fix: str) -> HomeportError:
    return HomeportError(what, where, fix, ExitCode.USAGE)
