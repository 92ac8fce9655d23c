"""The names of the secrets in deploy.yml. homeport.secrets reads their values."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from homeport.config.model import Config

# the keys by which the host authenticates to the store; the store does not get the encryption key
BUCKET_KEYS = ("access_key_id", "secret_access_key")


def names(config: Config) -> tuple[str, ...]:
    """The names of all secrets: of the app, the backup, the notifications' URLs, and the certificates' keys."""
    urls = (receiver.url for receiver in config.notify)
    keys = (domain.key for domain in config.own_certificates if domain.key)
    return tuple(dict.fromkeys((*config.env.secret, *backup_names(config).values(), *urls, *keys)))


def without_secrets(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process, without secrets and without the vault's password."""
    hidden = {*names(config), config.secrets.password_env}
    return {name: value for name, value in environ.items() if name not in hidden}


def scrub(config: Config, environ: MutableMapping[str, str]) -> None:
    """Remove all secrets and the vault's password from the environment, so that no child process inherits one."""
    for name in (*names(config), config.secrets.password_env):
        environ.pop(name, None)


def backup_names(config: Config) -> dict[str, str]:
    """The names of the backup's keys by kind: BUCKET_KEYS, and `encryption_key` if the backup is encrypted.

    Empty without a backup.
    """
    backup = config.backup
    if not config.backed_up:
        return {}
    names = {"access_key_id": backup.access_key_id, "secret_access_key": backup.secret_access_key}
    return names | ({"encryption_key": backup.encryption_key} if backup.encryption_key else {})
