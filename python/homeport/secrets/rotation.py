"""A new value for a secret, and a new password for the files."""

from __future__ import annotations

import secrets as random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from homeport.config.layers import Loaded
from homeport.config.secret_names import backup_names
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.secrets import document, files, password

# as many characters as `mix phx.gen.secret` makes: Plug wants 64 of a SECRET_KEY_BASE
RANDOM_BYTES = 48


def secret(loaded: Loaded, name: str, environ: Mapping[str, str]) -> str:
    """Put a strong random value under the name; say in which file. Raises HomeportError (exit code 2)."""
    if why := _not_ours(loaded, name):
        fix = f"make it where it is made, then: deploy secrets set {name}"
        raise HomeportError(f"{name} {why}", "deploy secrets rotate", fix, ExitCode.USAGE)
    opened = files.open_own(loaded, environ)
    value = random.token_urlsafe(RANDOM_BYTES)
    redact.learn({name: SecretStr(value)})
    _ = opened.values
    files.save(opened, document.put(opened.text, name, value))
    return opened.name


def _not_ours(loaded: Loaded, name: str) -> str:
    """Why a random value under this name would break something; empty if it would not."""
    config = loaded.config
    if name in backup_names(config).values():
        opens = name == config.backup.encryption_key
        return "is what the backup is encrypted with: a new one opens nothing" if opens else "is a key of the bucket"
    if name == config.database.url and config.database.engine == "external":
        return "is the address of the database"
    if name in (receiver.url for receiver in config.notify):
        return "is the URL of whoever is told: it is made where they are"
    if name in (domain.key for domain in config.own_certificates):
        return "is the key of a certificate, and is made together with it"
    if name in config.secrets.commands:
        return "comes from a command of secrets.commands, and not from the file"
    if name not in config.env.secret:
        return "is not in env.secret: the app would not get it"
    return ""


@dataclass(frozen=True)
class Begun:
    """What a change of the password found: the files it opens, those it does not, and where the password is kept."""

    loaded: Loaded
    source: str
    opened: tuple[files.Opened, ...]
    others: tuple[str, ...]
    # of a change that did not come to its end: it goes on with the same one
    pending: str | None


def begin(loaded: Loaded, environ: Mapping[str, str]) -> Begun:
    """Open every file beside deploy.yml that the password opens, of all destinations. Raises HomeportError."""
    old, new = password.find(loaded, environ), password.pending(loaded)
    found, others = list[files.Opened](), list[str]()
    for path in _beside(loaded):
        try:
            found.append(_by_either(loaded, path, old, new))
        except files.WrongPasswordError:
            if path in loaded.secrets_files:
                raise
            others.append(files.shown(path))
    if not found:
        what, fix = "there is nothing to encrypt anew", "deploy secrets set NAME, or deploy secrets edit"
        raise HomeportError(what, files.shown(loaded.secrets_files[0]), fix, ExitCode.USAGE)
    pending = new.get_secret_value() if new else None
    return Begun(loaded, password.source(loaded, environ), tuple(found), tuple(others), pending)


def finish(begun: Begun, new: str) -> list[str]:
    """Encrypt all of them under the new password, and keep it where the old one was; the names of the files."""
    opener = SecretStr(new)
    redact.learn({"vault password": opener})
    for opened in begun.opened:
        _ = opened.values
    password.put_aside(begun.loaded, begun.source, new)
    for opened in begun.opened:
        files.save(opened, opened.text, opener)
    password.keep(begun.loaded, begun.source, new)
    return [opened.name for opened in begun.opened]


def what_next(begun: Begun) -> str:
    """What is left to do for a person."""
    told = begun.loaded.config.secrets
    kept = {"password_file": f"It is in {told.password_file}", "keyring": "It is in the keyring"}
    given = {
        "password_env": f"the variable {told.password_env}",
        "password_command": "the place that the command reads",
    }
    mine = kept.get(begun.source) or f"Put it into {given.get(begun.source)}"
    left = f"; {', '.join(begun.others)} has another password, and stays as it is" if begun.others else ""
    return f"{mine}; tell the team, and commit the files{left}"


def _beside(loaded: Loaded) -> Iterator[Path]:
    base = loaded.secrets_files[0]
    yield from sorted(
        {path for pattern in ("", ".*") for path in base.parent.glob(f"{base.stem}{pattern}{base.suffix}")}
    )


def _by_either(loaded: Loaded, path: Path, old: SecretStr, new: SecretStr | None) -> files.Opened:
    try:
        return files.open_one(loaded, path, old)
    except files.WrongPasswordError:
        if new is None:
            raise
        return files.open_one(loaded, path, new)
