"""Converts the configuration to the playbooks' variables and to a push's settings. No secrets."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from homeport.config import accessories, cron
from homeport.config.accessories import Accessory
from homeport.config.database import ENGINES
from homeport.config.layers import Loaded
from homeport.config.model import Config, Domain
from homeport.config.problems import ConfigError, Problem
from homeport.config.secret_names import backup_names
from homeport.ssh.connection import Target, options
from hostctl.common.documents import Json
from hostctl.common.files import file_digest

# How long the edge holds a request while no instance answers, in seconds: a crashed instance is back within one or
# two, and after this time an error is better than a longer wait.
LONGEST_HOLD_SECONDS = 30.0
# The least seconds that an instance has to end by itself, however short the drain: enough to close a database.
LEAST_STOP_SECONDS = 10.0

_PUBLIC_KEY = re.compile(r"(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/]{20,}={0,3}( .*)?")


@dataclass(frozen=True)
class Push:
    """The parts of hostctl's push spec that come from the configuration."""

    settings: Json
    env: dict[str, str]


def settings(config: Config) -> Push:
    """The `settings` and `env` of a push spec. Durations are seconds."""
    return Push(
        {
            "release_name": config.release.name,
            "health": config.health.model_dump(),
            "drain_timeout": config.drain_timeout,
            "retain_releases": config.retain_releases,
            "strategy": config.release.strategy,
            "commands": {"migrate": config.release.commands.migrate},
            "migrate_timeout": config.release.migrate_timeout,
            "domains": list(config.names),
            "database": _push_database(config),
            "cron": cron.job_settings(config.cron),
        },
        _environment(config),
    )


def _push_database(config: Config) -> Json | None:
    database = config.database
    if database.engine == "none":
        return None
    common = {"engine": database.engine}
    if database.engine == "postgres":
        return {**common, "pool": database.pool, "lock_timeout": database.lock_timeout}
    if database.engine == "external":
        return {**common, "pool": database.pool, "url": database.url}
    own = {name: getattr(database, name) for name in ("settings", "unsafe_checkpoints")}
    return {**common, "path": _data_path(config, database.path), **own}


def _environment(config: Config) -> dict[str, str]:
    variables = {
        "PHX_HOST": config.names[0],
        **_database_environment(config),
        **accessories.environment(config.accessories),
    }
    return {**{name: text for name, text in variables.items() if name not in config.env.secret}, **config.env.clear}


def _database_environment(config: Config) -> dict[str, str]:
    """The variables by which the app finds its database, by engine; the URL is in the form of Ecto's `url` option."""
    engines = {"sqlite": _sqlite_environment, "postgres": _postgres_environment, "external": _pool}
    return engines[config.database.engine](config) if config.database.engine in engines else {}


def _sqlite_environment(config: Config) -> dict[str, str]:
    """The variables of SQLite. Ecto requires a host, which its SQLite adapter ignores, and one part after it."""
    path = _data_path(config, config.database.path)
    return {"DATABASE_PATH": path, "DATABASE_URL": f"ecto://localhost/{quote(path, safe='')}"}


def _postgres_environment(config: Config) -> dict[str, str]:
    """The variables of PostgreSQL. Ecto requires a host, but Postgrex uses socket_dir. PG* are for psql and libpq."""
    name, socket = database_name(config), f"/run/homeport-{config.app}-postgres"
    return {
        "DATABASE_URL": f"ecto://{config.app}@localhost/{name}?socket_dir={socket}",
        "PGHOST": socket,
        "PGUSER": config.app,
        "PGDATABASE": name,
        **_pool(config),
    }


def _pool(config: Config) -> dict[str, str]:
    return {"POOL_SIZE": str(config.database.pool)}


def database_name(config: Config) -> str:
    """The name of the app's database in its PostgreSQL cluster, with _ for -."""
    return config.app.replace("-", "_")


def _data_path(config: Config, name: str) -> str:
    return f"/var/lib/{config.app}/{name}"


def target(loaded: Loaded, *, provision: bool = False) -> Target:
    """The login of the user who pushes, or of the one who provisions."""
    config = loaded.config
    return Target(
        host=loaded.host_address,
        user=config.ssh.provision_user if provision else config.ssh.user,
        known_hosts=loaded.known_hosts,
        port=config.ssh.port,
        key=loaded.ssh_key,
    )


def inventory_name(loaded: Loaded) -> str:
    """The name of the host in the inventory: the app, and the destination if there is one."""
    return "-".join([loaded.config.app, *(loaded.destination or "").replace(":", "-").split()])


def host_vars(loaded: Loaded) -> Json:
    """The variables of the host in the inventory. Raises ConfigError for a file in deploy.yml that does not exist."""
    return {
        **_connection(loaded),
        **_app(loaded),
        **_limits(loaded.config),
        **_acme(loaded),
        "homeport_certificates": [_certificate(loaded, each) for each in loaded.config.own_certificates],
        **_database(loaded),
        "homeport_accessories": _accessories(loaded),
        "homeport_root": str(loaded.root),
        "homeport_hooks": str(loaded.path(loaded.config.hooks_path)),
        "homeport_destination": loaded.destination or "",
        "homeport_verify_address": loaded.config.verify.address,
        "homeport_notify": [receiver.model_dump(mode="json") for receiver in loaded.config.notify],
    }


def _connection(loaded: Loaded) -> Json:
    login = target(loaded)
    optional = {"ansible_port": login.port, "ansible_ssh_private_key_file": str(login.key) if login.key else None}
    return {
        "homeport_name": inventory_name(loaded),
        "ansible_host": login.host,
        "ansible_user": login.user,
        "ansible_ssh_args": shlex.join(options(login)),
        **{name: value for name, value in optional.items() if value is not None},
        "homeport_deploy_user": login.user,
        "homeport_provision_user": loaded.config.ssh.provision_user,
        "homeport_authorized_keys": _authorized_keys(loaded),
    }


def _app(loaded: Loaded) -> Json:
    config, push = loaded.config, settings(loaded.config)
    return {
        "homeport_app": config.app,
        "homeport_user": config.app,
        "homeport_domains": [_domain(each) for each in config.domains],
        "homeport_release_name": config.release.name,
        "homeport_strategy": config.release.strategy,
        "homeport_settings": push.settings,
        "homeport_env": push.env,
        "homeport_env_secret": list(config.env.secret),
        "homeport_build": _build(loaded),
        "homeport_hardening": {"firewall": config.hardening.firewall, "open": list(config.hardening.open)},
        "homeport_builds_here": config.release.build == "host",
    }


def _domain(domain: Domain) -> Json:
    return {"name": domain.name, "redirect_to": domain.redirect_to or ""}


def _certificate(loaded: Loaded, domain: Domain) -> Json:
    return {"name": domain.name, "certificate": _file(loaded, "domains", domain.certificate), "key": domain.key}


def _build(loaded: Loaded) -> Json:
    release = loaded.config.release
    return {
        "way": release.build,
        "path": str(loaded.path(release.path)),
        "containerfile": str(loaded.path(release.containerfile)) if release.containerfile else None,
        "release_name": release.name,
        "env": dict(release.env),
    }


def _limits(config: Config) -> Json:
    stop = max(config.drain_timeout, LEAST_STOP_SECONDS)
    start = config.health.deploy_timeout
    hold = stop + start if config.release.strategy == "restart" else min(start, LONGEST_HOLD_SECONDS)
    return {
        "homeport_limits": config.limits.model_dump(),
        "homeport_memory": config.limits.memory or 0,
        "homeport_cpu": config.limits.cpu or 0.0,
        "homeport_stop_seconds": stop,
        "homeport_hold_seconds": hold,
    }


def _acme(loaded: Loaded) -> Json:
    acme = loaded.config.acme
    return {
        "homeport_acme_directory": acme.directory or "",
        "homeport_acme_email": acme.email or "",
        "homeport_acme_ca": _file(loaded, "acme.ca", acme.ca),
        "homeport_acme_root": _file(loaded, "acme.root", acme.root),
    }


def _database(loaded: Loaded) -> Json:
    """The content of /etc/homeport/<app>/database.json, with the path of the CA on the laptop; and the keys' names."""
    config = loaded.config
    engines = {"sqlite": _sqlite, "postgres": _postgres, "external": _external}
    if config.database.engine not in engines:
        return {"homeport_database": None, "homeport_backup_secrets": None}
    database = {"engine": config.database.engine, "user": config.app, **engines[config.database.engine](config)}
    backup = _backup(loaded) if config.backed_up else None
    return {"homeport_database": {**database, "backup": backup}, "homeport_backup_secrets": _backup_secrets(config)}


def _sqlite(config: Config) -> Json:
    names = [config.database.path, *config.backup.extra]
    return {
        "unsafe_checkpoints": config.database.unsafe_checkpoints,
        "databases": [{"name": name, "path": _data_path(config, name)} for name in names],
    }


def _postgres(config: Config) -> Json:
    own = config.database.model_dump(mode="json", include={"pool", "lock_timeout", "parameters"})
    return {"name": database_name(config), **own}


def _external(config: Config) -> Json:
    return config.database.model_dump(mode="json", include={"pool", "url"})


def _backup(loaded: Loaded) -> Json:
    """The keys of `backup` for the host: without the names of secrets, and without the keys of other engines."""
    backup, engine = loaded.config.backup, loaded.config.database.engine
    others = {str(key) for (section, key), engines in ENGINES.items() if section == "backup" and engine not in engines}
    names = {"enabled", "extra", "access_key_id", "secret_access_key", "encryption_key"}
    keys = backup.model_dump(mode="json", exclude=names | others)
    encrypted = {"encrypted": backup.encryption_key is not None} if engine == "postgres" else {}
    return {**keys, **encrypted, "ca": _file(loaded, "backup.ca", backup.ca) or None}


def _backup_secrets(config: Config) -> Json | None:
    """The names of the backup's keys; None without a backup. For PostgreSQL also `encryption_key`, None if not set."""
    names: Json = dict(backup_names(config))
    return ({"encryption_key": None} if config.database.engine == "postgres" else {}) | names if names else None


def _accessories(loaded: Loaded) -> list[Json]:
    """The accessories, each with its unit and the digests of its files: a changed file provisions the host again."""
    return [_accessory(loaded, name, one) for name, one in loaded.config.accessories.items()]


def _accessory(loaded: Loaded, name: str, one: Accessory) -> Json:
    own = f"homeport-{loaded.config.app}-accessory-{name}.service"
    unit = own if one.kind in accessories.OWN else one.unit_name
    keys = one.model_dump(mode="json", include={"kind", "package", "memory", "persist", "evict"})
    files = [_accessory_file(loaded, name, to, file) for to, file in one.files.items()]
    return {"name": name, "unit": unit, **keys, "files": files}


def _accessory_file(loaded: Loaded, name: str, to: str, file: str) -> Json:
    source = _file(loaded, f"accessories.{name}.files.{to}", file)
    return {"src": source, "dest": to, "digest": file_digest(Path(source))}


def _file(loaded: Loaded, key: str, text: str | None) -> str:
    if text is None:
        return ""
    if not loaded.path(text).is_file():
        raise _config_error(loaded, key, f"there is no file {text}")
    return str(loaded.path(text))


def _config_error(loaded: Loaded, key: str, what: str) -> ConfigError:
    return ConfigError([Problem(loaded.origin[key], key, what)])


def _authorized_keys(loaded: Loaded) -> list[str]:
    return [key for entry in loaded.config.ssh.authorized_keys for key in _public_keys(loaded, entry)]


def _public_keys(loaded: Loaded, entry: str) -> list[str]:
    if _PUBLIC_KEY.fullmatch(entry):
        return [entry]
    path = Path(_file(loaded, "ssh.authorized_keys", entry))
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys or not all(_PUBLIC_KEY.fullmatch(key) for key in keys):
        what = f"{entry} is no file of public keys, one per line (….pub)"
        raise _config_error(loaded, "ssh.authorized_keys", what)
    return keys
