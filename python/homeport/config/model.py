"""What deploy.yml may say: one class per section, validated whole, frozen. Seconds and bytes, not texts.

The commented example, homeport/docs/deploy.yml, explains every key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from homeport.config import accessories, values
from homeport.config.accessories import Accessory
from homeport.config.cron import Jobs
from homeport.config.database import BACKED_UP, Backup, Database, told_by_others, wrong_together
from homeport.config.fields import (
    Address,
    AppName,
    Bytes,
    Command,
    Cores,
    DomainName,
    Email,
    Found,
    HostText,
    HttpsUrl,
    KeyName,
    KeyringEntry,
    Limit,
    PasswordVariable,
    PathText,
    Port,
    Program,
    ReleaseName,
    Seconds,
    Section,
    UrlPath,
    Wait,
)
from homeport.config.names import BUILD_SUFFIX, env_reason
from homeport.config.notify import Receivers
from homeport.config.values import Host, refuse
from homeport.config.variables import no_variable, variables

T = TypeVar("T")
Accessories = Annotated[dict[str, Accessory], BeforeValidator(accessories.named)]

_ELSEWHERE = "values come from deploy.secrets.yml or the environment of `deploy`"
# Linux: useradd(8) takes names of at most 32 characters
LONGEST_USER = 32


class Domain(Section):
    """A name the app answers at, or one that only redirects to such a name."""

    name: DomainName
    redirect_to: DomainName | None = None
    # a certificate of the team's own: the file, and the name of the secret that holds its key
    certificate: PathText | None = None
    key: KeyName | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: object) -> object:
        return data if isinstance(data, dict) else {"name": data}

    @model_validator(mode="after")
    def _both(self) -> Domain:
        if self.certificate and not self.key:
            refuse([(("key",), "is required beside certificate: the name of the secret that holds its private key")])
        if self.key and not self.certificate:
            refuse([(("certificate",), "is required beside key: the file with the certificate and its chain")])
        return self


class Commands(Section):
    """Commands of the release, run on the host with the new release."""

    migrate: Command | None = "bin/migrate"


class Release(Section):
    """How the release is built and switched."""

    name: ReleaseName = ""
    path: PathText = "."
    build: Literal["auto", "local", "host", "container"] = "auto"
    containerfile: PathText | None = None
    env: dict[str, str] = Field(default_factory=dict)
    commands: Commands = Commands()
    migrate_timeout: Limit = 900.0
    strategy: Literal["overlap", "restart"] = "overlap"

    @field_validator("env", mode="before")
    @classmethod
    def _env(cls, data: object) -> dict[str, str]:
        return variables(data, lambda name: "Homeport sets it itself (prod)" if name == "MIX_ENV" else "")


class Env(Section):
    """The app's environment: values here, or names alone, whose values nobody may see."""

    clear: dict[str, str] = Field(default_factory=dict)
    secret: tuple[str, ...] = ()

    @field_validator("clear", mode="before")
    @classmethod
    def _clear(cls, data: object) -> dict[str, str]:
        return variables(data, env_reason)

    @field_validator("secret", mode="before")
    @classmethod
    def _secret(cls, data: object) -> tuple[str, ...]:
        return _names(data)

    @model_validator(mode="after")
    def _once(self) -> Env:
        both = "is in env.clear as well: keep one of the two"
        twice = [index for index, name in enumerate(self.secret) if name in self.clear]
        refuse([(("secret", index), f"{self.secret[index]} {both}") for index in twice])
        return self


class SecretSources(Section):
    """What opens the file with the secrets, and which of them a command gives.

    The variable counts before the others, of which there is one at most: it is what CI has.
    """

    password_env: PasswordVariable = "HOMEPORT_VAULT_PASSWORD"  # noqa: S105 - the name of one
    password_file: PathText | None = None
    password_command: Program | None = None
    keyring: KeyringEntry | None = None
    commands: dict[str, Program] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> SecretSources:
        given = [name for name in ("password_file", "password_command", "keyring") if getattr(self, name)]
        refuse([((name,), f"is one way too many: {given[0]} tells the password as well") for name in given[1:]])
        return self


class Health(Section):
    """When an instance counts as up: GET `path` answers 200 within `deploy_timeout` of its start."""

    path: UrlPath = "/health"
    interval: Wait = 1.0
    timeout: Wait = 5.0
    deploy_timeout: Limit = 60.0


class Limits(Section):
    """The most one instance may take; nothing for no limit."""

    memory: Bytes | None = None
    cpu: Cores | None = None


class Ssh(Section):
    """Who logs in, and how. Keys and jump hosts of ~/.ssh/config work without any of this."""

    user: Annotated[str, BeforeValidator(values.deploy_login)] = "deploy"
    provision_user: Annotated[str, BeforeValidator(values.login)] = "root"
    port: Port | None = None
    key: PathText | None = None
    authorized_keys: tuple[PathText, ...] = ()
    known_hosts: PathText = "deploy.known_hosts"


class Acme(Section):
    """Where certificates come from; Let's Encrypt when nothing is said."""

    directory: HttpsUrl | None = None
    ca: PathText | None = None
    email: Email | None = None
    root: PathText | None = None


class Verify(Section):
    """How the checks from outside reach the host."""

    address: Address | None = None


class Config(Section):
    """All of deploy.yml, with every default filled in."""

    app: AppName
    host: HostText
    domains: tuple[Domain, ...]
    release: Release = Release()
    env: Env = Env()
    secrets: SecretSources = SecretSources()
    database: Database = Database()
    backup: Backup = Backup()
    accessories: Accessories = Field(default_factory=dict)
    health: Health = Health()
    drain_timeout: Seconds = 30.0
    retain_releases: Annotated[int, BeforeValidator(values.whole(2, 100))] = 5
    limits: Limits = Limits()
    cron: Jobs = ()
    hooks_path: PathText = "hooks"
    notify: Receivers = ()
    ssh: Ssh = Ssh()
    acme: Acme = Acme()
    verify: Verify = Verify()

    @model_validator(mode="before")
    @classmethod
    def _derived(cls, data: object, info: ValidationInfo) -> object:
        """What is named after the app, and what `host` and other keys tell, unless their own keys do.

        Validation's context is the destination: it has a place of its own in the bucket.
        """
        if not isinstance(data, dict):
            return data
        app = _parsed(values.app_name, data.get("app"))
        data = _below(data, "release", {"name": _release_name(data.get("app"))})
        for section, told in told_by_others(app, info.context, data).items():
            data = _below(data, section, told)
        given = _parsed(values.parse_host, data.get("host"))
        return _below(data, "ssh", {"provision_user": given.user, "port": given.port} if given else {})

    @field_validator("domains")
    @classmethod
    def _domains(cls, domains: tuple[Domain, ...]) -> tuple[Domain, ...]:
        refuse(_domain_mistakes(domains))
        return domains

    @model_validator(mode="after")
    def _together(self) -> Config:
        refuse(_mistakes_together(self))
        return self

    @property
    def instance_name(self) -> str:
        """What everything on the host is named after."""
        return self.app

    @property
    def backed_up(self) -> bool:
        """Whether the app's data streams to backup.bucket."""
        return self.database.engine in BACKED_UP and self.backup.enabled

    @property
    def names(self) -> tuple[str, ...]:
        """The names the app answers at; the first is the one it is known by."""
        return tuple(domain.name for domain in self.domains if not domain.redirect_to)

    @property
    def own_certificates(self) -> tuple[Domain, ...]:
        """The names whose certificates are the team's own."""
        return tuple(domain for domain in self.domains if domain.certificate)

    @property
    def at(self) -> Host:
        """What `host` says: an address or a name ssh knows, and user and port where it gives them."""
        return values.parse_host(self.host)


def _below(data: dict[Any, Any], section: str, derived: dict[str, Any]) -> dict[Any, Any]:
    given = {} if data.get(section) is None else data[section]
    if not isinstance(given, dict):
        return data
    return {**data, section: {**{key: value for key, value in derived.items() if value is not None}, **given}}


def _release_name(app: object) -> str | None:
    try:
        return values.release_name(app.replace("-", "_")) if isinstance(app, str) else None
    except ValueError:
        return None


def _parsed(parse: Callable[[object], T], value: object) -> T | None:
    try:
        return parse(value)
    except ValueError:
        return None


def _names(data: object) -> tuple[str, ...]:
    given = () if data is None else data
    if not isinstance(given, list | tuple):
        raise ValueError(f"must be a list of names; {_ELSEWHERE}")
    found: Found = []
    for index, name in enumerate(given):
        what = _no_name(name) or ("is there twice: keep one" if name in given[:index] else "")
        found += [((index,), what)] if what else []
    refuse(found)
    return tuple(given)


def _no_name(name: object) -> str:
    if not isinstance(name, str) or no_variable(name):
        return f"must be a name alone, such as SECRET_KEY_BASE; {_ELSEWHERE}"
    return f"{name} is refused: {why}" if (why := env_reason(name)) else ""


def _domain_mistakes(domains: tuple[Domain, ...]) -> Found:
    plain = list(dict.fromkeys(domain.name for domain in domains if not domain.redirect_to))
    found: Found = []
    if not domains or domains[0].redirect_to:
        found.append(((), "must begin with a name that does not redirect: the one the app is known by"))
    for index, domain in enumerate(domains):
        if domain.name in [other.name for other in domains[:index]]:
            found.append(((index,), f"{domain.name} is there twice: keep one"))
        elif plain and domain.redirect_to and domain.redirect_to not in plain:
            what = f"must be one of the names that do not redirect: {', '.join(plain)}"
            found.append(((index, "redirect_to"), what))
    return found


def _mistakes_together(config: Config) -> Found:
    checks = (_host_mistakes, _user_mistakes, _database_mistakes, _secret_mistakes, _accessory_mistakes)
    return [found for check in checks for found in check(config)]


def _secret_mistakes(config: Config) -> Found:
    backup = config.backup
    keys = (backup.access_key_id, backup.secret_access_key, backup.encryption_key) if config.backed_up else ()
    certified = (domain.key for domain in config.own_certificates if domain.key)
    urls = (receiver.url for receiver in config.notify)
    names = {*config.env.secret, *keys, *urls, *certified}
    what = "is not in env.secret: name it there, or leave the command out"
    found: Found = [(("secrets", "commands", name), what) for name in config.secrets.commands if name not in names]
    if config.secrets.password_env in {*names, *config.env.clear}:
        what = f"{config.secrets.password_env} is one of the secrets that it opens: use another name"
        found.append((("secrets", "password_env"), what))
    return found


def _database_mistakes(config: Config) -> Found:
    return wrong_together(config.database, config.backup, config.env.clear, config.env.secret)


def _accessory_mistakes(config: Config) -> Found:
    taken = {**dict.fromkeys(config.env.clear, "env.clear"), **dict.fromkeys(config.env.secret, "env.secret")}
    if config.database.engine != "none":
        taken["DATABASE_URL"] = "database"
    return accessories.wrong_together(config.accessories, taken)


def _host_mistakes(config: Config) -> Found:
    given, found = values.parse_host(config.host), Found()
    if given.port and given.port != config.ssh.port:
        found.append((("ssh", "port"), f"differs from the port in host, {given.port}: keep one of the two"))
    if given.user and given.user != config.ssh.provision_user:
        what = f"differs from the user in host, {given.user}: keep one of the two"
        found.append((("ssh", "provision_user"), what))
    return found


def _user_mistakes(config: Config) -> Found:
    found = Found()
    if config.ssh.user == config.ssh.provision_user:
        found.append((("ssh", "user"), f"must be another than the one who provisions, {config.ssh.user}"))
    if config.ssh.user in (config.app, config.app + BUILD_SUFFIX):
        found.append((("ssh", "user"), "must be another than the app's own users"))
    if config.release.build == "host" and len(config.app + BUILD_SUFFIX) > LONGEST_USER:
        most = LONGEST_USER - len(BUILD_SUFFIX)
        found.append((("app",), f"must have at most {most} characters where releases are built on the host"))
    return found
