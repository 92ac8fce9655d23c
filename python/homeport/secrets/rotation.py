"""Rotates the value of a secret, and the vault password of the files."""

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

# 64 characters, the least that Plug accepts for a SECRET_KEY_BASE
RANDOM_BYTES = 48


def rotate(loaded: Loaded, name: str, environ: Mapping[str, str]) -> str:
    """Set the secret to a new random value; returns the name of the file. Raises HomeportError (usage)."""
    if why := _why_not_random(loaded, name):
        fix = f"create a new one where it is issued, then run: deploy secrets set {name}"
        raise HomeportError(f"{name} {why}", "deploy secrets rotate", fix, ExitCode.USAGE)
    opened = files.open_own(loaded, environ)
    value = random.token_urlsafe(RANDOM_BYTES)
    redact.learn({name: SecretStr(value)})
    _ = opened.values
    files.save(opened, document.put(opened.text, name, value))
    return opened.name


def _why_not_random(loaded: Loaded, name: str) -> str:
    """Why the secret cannot have a random value; "" if it can."""
    config = loaded.config
    if name in backup_names(config).values():
        opens = name == config.backup.encryption_key
        return "encrypts the backup, which a new key could not decrypt" if opens else "is a key of the bucket"
    if name == config.database.url and config.database.engine == "external":
        return "is the address of the database"
    if name in (receiver.url for receiver in config.notify):
        return "is the URL of a receiver, which issues it"
    if name in (domain.key for domain in config.own_certificates):
        return "is the key of a certificate, and is created together with it"
    if name in config.secrets.commands:
        return "comes from a command of secrets.commands, and not from the file"
    if name not in config.env.secret:
        return "is not in env.secret: the app would not get it"
    return ""


@dataclass(frozen=True)
class Rotation:
    """A rotation of the vault password: the files that the old one opens, `others` that it does not, and its source."""

    loaded: Loaded
    source: str
    opened: tuple[files.SecretsFile, ...]
    others: tuple[str, ...]
    # the new password of an interrupted rotation, which continues with it
    pending: str | None


def begin(loaded: Loaded, environ: Mapping[str, str]) -> Rotation:
    """Open the files of all destinations beside deploy.yml that the password opens. Raises HomeportError."""
    old, new = password.find(loaded, environ), password.pending_password(loaded)
    opened, others = list[files.SecretsFile](), list[str]()
    for path in _secrets_files(loaded):
        try:
            opened.append(_open_with_either(loaded, path, old, new))
        except files.WrongPasswordError:
            if path in loaded.secrets_files:
                raise
            others.append(files.display_path(path))
    if not opened:
        what, fix = "there is no file to encrypt again", "deploy secrets set NAME, or deploy secrets edit"
        raise HomeportError(what, files.display_path(loaded.secrets_files[0]), fix, ExitCode.USAGE)
    pending = new.get_secret_value() if new else None
    return Rotation(loaded, password.source(loaded, environ), tuple(opened), tuple(others), pending)


def finish(rotation: Rotation, new: str) -> list[str]:
    """Encrypt all files with the new password and store it in the place of the old one; returns the files' names."""
    new_password = SecretStr(new)
    redact.learn({"vault password": new_password})
    for opened in rotation.opened:
        _ = opened.values
    password.write_pending(rotation.loaded, rotation.source, new)
    for opened in rotation.opened:
        files.save(opened, opened.text, new_password)
    password.replace(rotation.loaded, rotation.source, new)
    return [opened.name for opened in rotation.opened]


def next_steps(rotation: Rotation) -> str:
    """The remaining steps for a person."""
    sources = rotation.loaded.config.secrets
    stored = {
        "password_file": f"It is in {sources.password_file}",
        "keyring": "It is in the keyring",
        "password_env": f"Put it into the variable {sources.password_env}",
        "password_command": "Put it into the place that the command reads",
    }[rotation.source]
    others = f"; {', '.join(rotation.others)} has another password, and stays as it is" if rotation.others else ""
    return f"{stored}; tell the team, and commit the files{others}"


def _secrets_files(loaded: Loaded) -> Iterator[Path]:
    base = loaded.secrets_files[0]
    yield from sorted(
        {path for pattern in ("", ".*") for path in base.parent.glob(f"{base.stem}{pattern}{base.suffix}")}
    )


def _open_with_either(loaded: Loaded, path: Path, old: SecretStr, new: SecretStr | None) -> files.SecretsFile:
    try:
        return files.open_one(loaded, path, old)
    except files.WrongPasswordError:
        if new is None:
            raise
        return files.open_one(loaded, path, new)
