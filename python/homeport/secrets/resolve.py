"""Reads the values of all secrets, as SecretStr, which does not print them.

A value comes from the environment of `deploy`, else from a command of `secrets.commands`, else from deploy.secrets.yml.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from homeport.config import secret_names
from homeport.config.layers import Loaded
from homeport.config.model import Config
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.redact import LEAST_CHARACTERS, learn

# a shorter key can be guessed by anybody who can read the bucket
LEAST_ENCRYPTION_KEY = 20

Secrets = dict[str, SecretStr | None]


@dataclass(frozen=True)
class Supplied:
    """A value with its source, and the fix for a wrong value there."""

    value: str
    where: str
    fix: str


def collect(loaded: Loaded, environ: Mapping[str, str], only: Collection[str] = ()) -> Secrets:
    """The value of each secret of the configuration, or only of those in `only`; None keeps the value on the host.

    Raises HomeportError (usage) for a value that cannot be kept secret or be transferred, a command that fails, and a
    file that cannot be opened.
    """
    names, with_sandbox = tuple(only) or secret_names.names(loaded.config), _with_sandbox(loaded, environ)
    supplied = _of_environment(names, with_sandbox)
    supplied |= _of_commands(loaded, _missing(names, supplied), with_sandbox)
    supplied |= _of_files(loaded, _missing(names, supplied), environ)
    key = loaded.config.backup.encryption_key
    least = {name: LEAST_ENCRYPTION_KEY if name == key else LEAST_CHARACTERS for name in names}
    collected = {name: _secret(name, supplied[name], least[name]) if name in supplied else None for name in names}
    learn(collected)
    return collected


def _missing(names: Iterable[str], supplied: Collection[str]) -> list[str]:
    return [name for name in names if name not in supplied]


def _of_environment(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, Supplied]:
    fix = "set it to the right value, or leave it out to keep the one on the host: unset {}"
    return {
        name: Supplied(environ[name], f"environment: {name}", fix.format(name)) for name in names if name in environ
    }


def _of_commands(loaded: Loaded, names: Iterable[str], environ: Mapping[str, str]) -> dict[str, Supplied]:
    """The values that commands print. They run with the environment without secrets."""
    from homeport.secrets.commands import output

    commands, supplied = loaded.config.secrets.commands, {}
    for name in names:
        if name in commands:
            where = f"{loaded.origin[f'secrets.commands.{name}']} secrets.commands.{name}"
            printed = output(commands[name], name, where, secret_names.without_secrets(loaded.config, environ))
            supplied[name] = Supplied(printed, where, "correct the command, or what it reads")
    return supplied


def _of_files(loaded: Loaded, names: list[str], environ: Mapping[str, str]) -> dict[str, Supplied]:
    """The values in the encrypted files, which are opened only if a value is still missing."""
    from homeport.secrets import files

    stored = files.stored_values(loaded, environ) if names else {}
    return {
        name: Supplied(value.value.get_secret_value(), files.display_path(value.file), f"deploy secrets set {name}")
        for name, value in stored.items()
        if name in names
    }


def backup_secrets(loaded: Loaded, environ: Mapping[str, str]) -> Secrets:
    """The backup's keys by kind, None for one without a value; empty without a backup.

    Raises HomeportError as `collect` does.
    """
    return of_backup(loaded.config, collect(loaded, environ))


def of_backup(config: Config, collected: Secrets) -> Secrets:
    """As `backup_secrets`, from the result of `collect`."""
    return {key: collected[name] for key, name in secret_names.backup_names(config).items()}


def _with_sandbox(loaded: Loaded, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment; for a sandbox with the keys of its own store, which override those of another store."""
    if loaded.credentials is None or not secret_names.backup_names(loaded.config):
        return environ
    from homeport.sandbox import services

    names = secret_names.backup_names(loaded.config)
    try:
        access, secret = services.read_credentials(loaded.credentials)
        keys = {"access_key_id": access, "secret_access_key": secret}
        if "encryption_key" in names:
            keys["encryption_key"] = services.read_encryption_key(loaded.credentials)
    except (OSError, KeyError):
        what = "the keys of the sandbox's own store cannot be read"
        # a sandbox of an earlier version lacks a key, and must be created again
        exists = loaded.credentials.exists()
        fix = "deploy sandbox down, then deploy sandbox up" if exists else "deploy sandbox up"
        raise HomeportError(what, str(loaded.credentials), fix, ExitCode.USAGE) from None
    return {**environ, **{name: keys[key] for key, name in names.items()}}


def reveal(value: SecretStr | None) -> str | None:
    """The plain value, to be sent to the host; None for None."""
    return value.get_secret_value() if value else None


def fingerprints(secrets: Mapping[str, SecretStr | None]) -> dict[str, str | None]:
    """The SHA-256 of each value in hex, by which `hostctl plan` finds changed values."""
    return {name: _fingerprint(reveal(value)) for name, value in secrets.items()}


def _fingerprint(value: str | None) -> str | None:
    return None if value is None else hashlib.sha256(value.encode()).hexdigest()


def _secret(name: str, supplied: Supplied, least: int) -> SecretStr:
    if mistake := value_mistake(supplied.value, least):
        raise HomeportError(f"the value of {name} {mistake}", supplied.where, supplied.fix, ExitCode.USAGE)
    return SecretStr(supplied.value)


def value_mistake(value: str, least: int = LEAST_CHARACTERS) -> str:
    """Why a value cannot be kept secret or be transferred to the host; "" if it can."""
    if not value:
        return "is empty"
    if len(value) < least:
        why = "to keep it out of logs" if least == LEAST_CHARACTERS else "to encrypt with: openssl rand -base64 48"
        return f"has fewer than {least} characters, too few {why}"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "is not UTF-8"
    bad = any((character < " " and character not in "\t\n") or character == "\x7f" for character in value)
    return "holds a control character, which no environment file can carry" if bad else ""
