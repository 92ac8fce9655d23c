"""Names of secrets, as deploy.yml has them; their values are in homeport.secrets."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from homeport.config.model import Config

# what the store knows the host by; the key that its objects are encrypted with is none of its business
BUCKET_KEYS = ("access_key_id", "secret_access_key")


def names(config: Config) -> tuple[str, ...]:
    """The names of all secrets: the app's, those of the backup, the URLs of whoever is told, the certificates' keys."""
    urls = (receiver.url for receiver in config.notify)
    keys = (domain.key for domain in config.own_certificates if domain.key)
    return tuple(dict.fromkeys((*config.env.secret, *backup_names(config).values(), *urls, *keys)))


def without_secrets(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process."""
    hidden = {*names(config), config.secrets.password_env}
    return {name: value for name, value in environ.items() if name not in hidden}


def scrub(config: Config, environ: MutableMapping[str, str]) -> None:
    """Take all secrets and the vault's password out of the environment, so that no child process inherits one."""
    for name in (*names(config), config.secrets.password_env):
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
