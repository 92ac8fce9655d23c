"""Values of env.secret: from the environment of `deploy`, wrapped so that no repr or log shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping

from pydantic import SecretStr

from homeport.config.model import Config
from homeport.errors import ExitCode, HomeportError

# a shorter one cannot be redacted: it would turn up in every other word
LEAST_CHARACTERS = 4

Secrets = dict[str, SecretStr | None]


def collect(config: Config, environ: Mapping[str, str]) -> Secrets:
    """The value of each name in env.secret; None where there is none, which keeps what the host has.

    Raises HomeportError (exit code 2) for a value that cannot be kept secret or cannot be carried.
    """
    return {name: _wrapped(name, environ[name]) if name in environ else None for name in config.env.secret}


def scrub(config: Config, environ: MutableMapping[str, str]) -> None:
    """Take the names of env.secret out of the environment, so that no child process inherits a value."""
    for name in config.env.secret:
        environ.pop(name, None)


def reveal(value: SecretStr | None) -> str | None:
    """The bare value, for the one place that hands it to the host."""
    return value.get_secret_value() if value else None


def fingerprints(secrets: Mapping[str, SecretStr | None]) -> dict[str, str | None]:
    """SHA-256 of each value in hex: enough to tell whether one changed, as `hostctl plan` does."""
    return {name: _fingerprint(reveal(value)) for name, value in secrets.items()}


def _fingerprint(value: str | None) -> str | None:
    return None if value is None else hashlib.sha256(value.encode()).hexdigest()


def _wrapped(name: str, value: str) -> SecretStr:
    if reason := _reason(value):
        fix = f"set it to the right value, or leave it out to keep the one on the host: unset {name}"
        raise HomeportError(f"the value of {name} {reason}", f"environment: {name}", fix, ExitCode.USAGE)
    return SecretStr(value)


def _reason(value: str) -> str:
    if not value:
        return "is empty"
    if len(value) < LEAST_CHARACTERS:
        return f"has fewer than {LEAST_CHARACTERS} characters, too few to keep it out of logs"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "is not UTF-8"
    bad = any((character < " " and character not in "\t\n") or character == "\x7f" for character in value)
    return "holds a control character, which no environment file can carry" if bad else ""
