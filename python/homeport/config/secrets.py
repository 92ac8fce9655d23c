"""Values of env.secret and the backup's keys: from the environment of `deploy`, wrapped so that nothing shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping

from pydantic import SecretStr

from homeport.config.layers import Loaded
from homeport.config.model import Config
from homeport.errors import ExitCode, HomeportError

# a shorter one cannot be redacted: it would turn up in every other word
LEAST_CHARACTERS = 4
# a shorter one can be guessed: everything in the bucket is encrypted with it
LEAST_ENCRYPTION_KEY = 20
# what the store knows the host by; the key that its objects are encrypted with is none of its business
BUCKET_KEYS = ("access_key_id", "secret_access_key")

Secrets = dict[str, SecretStr | None]


def collect(loaded: Loaded, environ: Mapping[str, str]) -> Secrets:
    """The value of each name in env.secret and of the backup's keys; None where there is none.

    None keeps what the host has. The app gets those of env.secret alone. Raises HomeportError (exit code 2) for a value
    that cannot be kept secret or cannot be carried.
    """
    given = _with_sandbox(loaded, environ)
    names, key = (*loaded.config.env.secret, *backup_names(loaded.config).values()), loaded.config.backup.encryption_key
    least = {name: LEAST_ENCRYPTION_KEY if name == key else LEAST_CHARACTERS for name in names}
    return {name: _wrapped(name, given[name], least[name]) if name in given else None for name in names}


def backup_secrets(loaded: Loaded, environ: Mapping[str, str]) -> Secrets:
    """The backup's keys by what each is, None for one not given; empty without a backup.

    Raises HomeportError as `collect` does.
    """
    return of_backup(loaded.config, collect(loaded, environ))


def of_backup(config: Config, collected: Secrets) -> Secrets:
    """The same from what `collect` gave."""
    return {key: collected[name] for key, name in backup_names(config).items()}


def scrub(config: Config, environ: MutableMapping[str, str]) -> None:
    """Take the names of all secrets out of the environment, so that no child process inherits a value."""
    for name in (*config.env.secret, *backup_names(config).values()):
        environ.pop(name, None)


def backup_names(config: Config) -> dict[str, str]:
    """The names of the backup's keys, by what each is: BUCKET_KEYS, and `encryption_key` where it is encrypted.

    Empty without a backup.
    """
    backup = config.backup
    if not config.backed_up:
        return {}
    names = {"access_key_id": backup.access_key_id, "secret_access_key": backup.secret_access_key}
    return names | ({"encryption_key": backup.encryption_key} if backup.encryption_key else {})


def _with_sandbox(loaded: Loaded, environ: Mapping[str, str]) -> Mapping[str, str]:
    """A sandbox's store has keys of its own: those of another store in the environment do not count there."""
    if loaded.credentials is None or not backup_names(loaded.config):
        return environ
    from homeport.sandbox import services

    names = backup_names(loaded.config)
    try:
        access, secret = services.read_credentials(loaded.credentials)
        known = {"access_key_id": access, "secret_access_key": secret}
        if "encryption_key" in names:
            known["encryption_key"] = services.read_encryption_key(loaded.credentials)
    except (OSError, KeyError):
        what = "the keys of the sandbox's own store cannot be read"
        # one that an earlier version made lacks a key: it has to be made anew
        there = loaded.credentials.exists()
        fix = "deploy sandbox down, then deploy sandbox up" if there else "deploy sandbox up"
        raise HomeportError(what, str(loaded.credentials), fix, ExitCode.USAGE) from None
    return {**environ, **{name: known[key] for key, name in names.items()}}


def reveal(value: SecretStr | None) -> str | None:
    """The bare value, for the one place that hands it to the host."""
    return value.get_secret_value() if value else None


def fingerprints(secrets: Mapping[str, SecretStr | None]) -> dict[str, str | None]:
    """SHA-256 of each value in hex: enough to tell whether one changed, as `hostctl plan` does."""
    return {name: _fingerprint(reveal(value)) for name, value in secrets.items()}


def _fingerprint(value: str | None) -> str | None:
    return None if value is None else hashlib.sha256(value.encode()).hexdigest()


def _wrapped(name: str, value: str, least: int) -> SecretStr:
    if reason := _reason(value, least):
        fix = f"set it to the right value, or leave it out to keep the one on the host: unset {name}"
        raise HomeportError(f"the value of {name} {reason}", f"environment: {name}", fix, ExitCode.USAGE)
    return SecretStr(value)


def _reason(value: str, least: int) -> str:
    if not value:
        return "is empty"
    if len(value) < least:
        why = "to keep it out of logs" if least == LEAST_CHARACTERS else "to encrypt with: openssl rand -base64 48"
        return f"has fewer than {least} characters, too few {why}"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "is not UTF-8"
    bad = any((character < " " and character not in "\t\n") or character == "\x7f" for character in value)
    return "holds a control character, which no environment file can carry" if bad else ""
