"""The model of deploy.yml: one class per section, validated as a whole, frozen. Durations are seconds, sizes bytes.

The docstring below a key is its description: the reference, the JSON Schema, the example that `deploy init` fills in
and `deploy config --explain KEY` are made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from homeport.config import accessories, values
from homeport.config.accessories import Accessory
from homeport.config.cron import Jobs
from homeport.config.database import BACKED_UP, Backup, Database, contradictions, derived_defaults
from homeport.config.fields import (
    Address,
    AppName,
    Bytes,
    Command,
    Cores,
    DomainName,
    Email,
    Flag,
    HostText,
    HttpsUrl,
    KeyName,
    KeyringEntry,
    Limit,
    Mistakes,
    OpenPort,
    PasswordVariable,
    PathText,
    Port,
    Program,
    ReleaseName,
    Seconds,
    Section,
    UrlPath,
    Wait,
    between,
)
from homeport.config.names import BUILD_SUFFIX, env_reason
from homeport.config.notify import Receivers
from homeport.config.values import Host, refuse
from homeport.config.variables import name_mistake, variables

T = TypeVar("T")
Accessories = Annotated[dict[str, Accessory], BeforeValidator(accessories.with_kinds)]

_ELSEWHERE = "values come from deploy.secrets.yml or the environment of `deploy`"
# Linux: useradd(8) takes names of at most 32 characters
LONGEST_USER = 32


class Domain(Section):
    """A name at which the app answers, or one that redirects to such a name."""

    name: DomainName
    """A public DNS name, in lower case. A list entry that is only text is a name."""

    redirect_to: DomainName | None = None
    """The name that visitors of this one are redirected to. It must be one of the names that do not redirect."""
    certificate: PathText | None = None
    """The file of a certificate of your own: PEM, with its chain, relative to deploy.yml. Without it the certificate
    comes from the ACME authority (see acme).
    """

    key: KeyName | None = None
    """The name of the secret that holds the private key of `certificate`."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: object) -> object:
        return data if isinstance(data, dict) else {"name": data}

    @model_validator(mode="after")
    def _check(self) -> Domain:
        if self.certificate and not self.key:
            refuse([(("key",), "is required beside certificate: the name of the secret that holds its private key")])
        if self.key and not self.certificate:
            refuse([(("certificate",), "is required beside key: the file with the certificate and its chain")])
        return self


class Commands(Section):
    """Commands of the release, run on the host with the new release."""

    migrate: Command | None = "bin/migrate"
    """The program in the release that migrates the database. It runs once per push, before the switch; null for none.
    `mix phx.gen.release` writes bin/migrate.
    """


class Release(Section):
    """How the release is built and switched."""

    name: ReleaseName = ""
    """The name of the mix release. By default the app's name, with _ for -."""

    path: PathText = "."
    """The directory of the mix project, relative to deploy.yml."""

    build: Literal["auto", "local", "host", "container"] = "auto"
    """Where releases are built: local (mix on this machine), host (on the host, by an unprivileged user), container
    (podman or docker), or auto: the first of them that fits.
    """

    containerfile: PathText | None = None
    """The Containerfile to build with. By default the one beside mix.exs, otherwise one that Homeport generates."""

    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables for the build. MIX_ENV is always prod."""

    commands: Commands = Commands()
    """Commands of the release, run on the host with the new release."""

    migrate_timeout: Limit = 900.0
    """The time limit for migrations."""

    strategy: Literal["overlap", "restart"] = "overlap"
    """overlap starts the new instance beside the old one. restart stops the old instance first, for an app that must
    never run twice; requests wait at the edge meanwhile.
    """

    @field_validator("env", mode="before")
    @classmethod
    def _env(cls, data: object) -> dict[str, str]:
        return variables(data, lambda name: "Homeport sets it itself (prod)" if name == "MIX_ENV" else "")


class Env(Section):
    """The app's environment: variables with their values, and names of secrets."""

    clear: dict[str, str] = Field(default_factory=dict)
    """Variables whose values anybody may read."""

    secret: tuple[str, ...] = ()
    """Names of variables whose values are secret. Each value comes from the environment of `deploy`, from a command
    (secrets.commands), or from deploy.secrets.yml, in this order; a name that has no value there keeps the value
    that the host has. On the host values are encrypted on the disk; the app reads each from its environment, or from
    the file secret_NAME in $CREDENTIALS_DIRECTORY.
    """

    @field_validator("clear", mode="before")
    @classmethod
    def _clear(cls, data: object) -> dict[str, str]:
        return variables(data, env_reason)

    @field_validator("secret", mode="before")
    @classmethod
    def _secret(cls, data: object) -> tuple[str, ...]:
        return _names(data)

    @model_validator(mode="after")
    def _check(self) -> Env:
        both = "is in env.clear as well: keep one of the two"
        twice = [index for index, name in enumerate(self.secret) if name in self.clear]
        refuse([(("secret", index), f"{self.secret[index]} {both}") for index in twice])
        return self


class SecretSources(Section):
    """Where the vault's password comes from, and which secrets a command prints.

    The variable takes precedence over the other sources, at most one of which may be set.
    """

    password_env: PasswordVariable = "HOMEPORT_VAULT_PASSWORD"  # noqa: S105 - the name of one
    """The variable in the environment of `deploy` that holds the vault's password. If it is set, it takes precedence
    over the other sources: use it in CI.
    """

    password_file: PathText | None = None
    """A file that holds the vault's password. Only you may read it, and git must ignore it."""

    password_command: Program | None = None
    """A command that prints the vault's password, such as: op read op://team/shop/vault"""

    keyring: KeyringEntry | None = None
    """The entry of the desktop's keyring that holds the vault's password: `keyring set homeport shop` makes the entry
    shop. It needs `pipx inject homeport keyring`.
    """

    commands: dict[str, Program] = Field(default_factory=dict)
    """Commands that print a secret, by the secret's name, such as: {STRIPE_KEY: pass show shop/stripe}. They run
    without a shell.
    """

    @model_validator(mode="after")
    def _check(self) -> SecretSources:
        sources = [name for name in ("password_file", "password_command", "keyring") if getattr(self, name)]
        refuse([((name,), f"is one source too many: {sources[0]} is set as well") for name in sources[1:]])
        return self


class Health(Section):
    """When an instance is healthy: GET `path` answers with a 2xx status within `deploy_timeout` of its start."""

    path: UrlPath = "/health"
    """The path of the health check: GET, over plain HTTP, with the first domain as Host and X-Forwarded-Proto: https.
    The instance is healthy when the answer has a 2xx status.
    """

    interval: Wait = 1.0
    """The time between two health checks."""

    timeout: Wait = 5.0
    """The time limit for one answer."""

    deploy_timeout: Limit = 60.0
    """The time within which a new instance must become healthy."""


class Limits(Section):
    """What one instance may use at most; null for no limit."""

    memory: Bytes | None = None
    """The memory that one instance may use, such as 512M; null for no limit."""

    cpu: Cores | None = None
    """The processors that one instance may use, such as 1.5; null for no limit."""


class Ssh(Section):
    """Who logs in, and how. Keys and jump hosts of ~/.ssh/config work without these settings."""

    user: Annotated[str, BeforeValidator(values.deploy_login)] = "deploy"
    """The user who pushes. Homeport creates this user and lets it run one program, hostctl."""

    provision_user: Annotated[str, BeforeValidator(values.login)] = "root"
    """The user who provisions: root, or a user with full sudo rights. By default the user in `host`."""

    port: Port | None = None
    """The SSH port. By default the port in `host`, otherwise the one that ssh uses."""

    key: PathText | None = None
    """A private key file. By default the keys that ssh would use."""

    authorized_keys: tuple[PathText, ...] = ()
    """Others who may push: public keys, or files of public keys."""

    known_hosts: PathText = "deploy.known_hosts"
    """The file in which the host's key is pinned. Commit it."""


class Hardening(Section):
    """What protects the host itself. Each part can be turned off by its name."""

    firewall: Flag = True
    """A firewall that closes every port to other machines but SSH's, 80, 443 and `open`, whatever an app binds. It is
    in force while one app of the host wants it. Other rules of nftables on the host stay, and count besides.
    """

    open: tuple[OpenPort, ...] = ()
    """Ports that are open besides: 8443 or 8443/tcp, 51820/udp."""


class Acme(Section):
    """The certificate authority; Let's Encrypt by default."""

    directory: HttpsUrl | None = None
    """The URL of the ACME directory. By default Let's Encrypt's."""

    ca: PathText | None = None
    """A file with the CA that signed the ACME server's own certificate."""

    email: Email | None = None
    """The address that the authority may write to."""

    root: PathText | None = None
    """A file with the root of the app's certificates, if it is not a public one."""


class Verify(Section):
    """How checks from outside reach the host."""

    address: Address | None = None
    """The address that checks from outside connect to, instead of the one in DNS."""


class Config(Section):
    """The whole of deploy.yml, with every default filled in."""

    app: AppName
    """The app's name. Its user, its directories and its units on the host have this name; two apps on one host need two
    names.
    """

    host: HostText
    """The host: an address, user@address:port, or an alias of ~/.ssh/config. An IPv6 address stands in brackets."""

    domains: tuple[Domain, ...]
    """The names at which the app answers, over HTTPS. The first is the main one (PHX_HOST). A name may redirect to
    another one, or have a certificate of your own: `deploy provision` installs it, `deploy certs push` replaces it
    with a newer one. For example:

      - name: www.shop.example.com
        redirect_to: shop.example.com
      - name: shop.example.com
        certificate: certs/shop.pem
        key: SHOP_CERTIFICATE_KEY
    """

    release: Release = Release()
    """How the release is built, migrated and switched."""

    env: Env = Env()
    """The app's environment. Homeport sets PORT, PHX_SERVER, RELEASE_COOKIE and the like itself."""

    secrets: SecretSources = SecretSources()
    """Where the values of secrets come from. deploy.secrets.yml holds them, encrypted by Ansible Vault: `deploy secrets
    edit`, `deploy secrets set NAME`. Commit it. With `-d staging`, deploy.secrets.staging.yml takes precedence. One
    password opens both files; the keys here say where that password is. At most one of password_file,
    password_command and keyring may be set.
    """

    database: Database = Database()
    """The app's database. The app finds it by DATABASE_URL, in the form of Ecto's `url` option."""

    backup: Backup = Backup()
    """The bucket that the database is backed up to: any store that speaks S3. `deploy backup create-bucket` creates the
    bucket.
    """

    accessories: Accessories = Field(default_factory=dict)
    """Other services that the app needs on its host, each under a name of your choice; `deploy push` provisions them
    when they change. The names redis, valkey (Debian 13) and memcached imply their kind. Each of these belongs to
    the app alone, listens on a loopback port and requires a password; the app finds it by the variable NAME_URL
    (REDIS_URL, QUEUE_URL). The data of accessories is in no backup. A service that is removed here keeps running
    until `deploy accessory remove NAME`. For example:

      redis: {}
      queue:
        kind: valkey
        memory: 128M
        evict: false
        persist: true
      mq:
        package: mosquitto
        unit: mosquitto.service
        env: {MQTT_HOST: 127.0.0.1}
        files: {/etc/mosquitto/conf.d/shop.conf: config/mosquitto.conf}
    """

    health: Health = Health()
    """When a new instance counts as healthy."""

    drain_timeout: Seconds = 30.0
    """How long the old instance keeps its open connections (websockets, long downloads) after the switch."""

    retain_releases: Annotated[int, BeforeValidator(values.whole_number(2, 100)), between(2, 100)] = 5
    """How many good releases are kept on the host for a rollback, from 2 to 100."""

    limits: Limits = Limits()
    """The limits of one instance."""

    cron: Jobs = ()
    """Scheduled jobs, which run beside the live release: as the app's user, with its environment, and never twice at
    once. They are part of the release. For example:

      - {name: report, schedule: "15 3 * * *", command: bin/report --daily}
      - {name: sweep, schedule: "@hourly", eval: Shop.Carts.sweep(), timeout: 10m}
    """

    hooks_path: PathText = "hooks"
    """The directory of hooks, relative to deploy.yml: programs named pre-build, pre-push, pre-migrate, pre-rollback,
    pre-restore, post-live and post-failure, which run on this machine with HOMEPORT_* variables.
    """

    notify: Receivers = ()
    """Receivers of notifications. The host sends them itself, whether or not anybody is connected. For example:

      - url: SLACK_URL
        format: slack
        on: [failure, drill, trouble]
    """

    ssh: Ssh = Ssh()
    """How to log in on the host. Agents, jump hosts and hardware keys of ~/.ssh/config work as they are."""

    hardening: Hardening = Hardening()
    """What protects the host itself."""

    acme: Acme = Acme()
    """The certificate authority. Certificates come from Let's Encrypt unless another ACME directory is set."""

    verify: Verify = Verify()
    """How checks from outside reach the host."""

    @model_validator(mode="before")
    @classmethod
    def _derive_defaults(cls, data: object, info: ValidationInfo) -> object:
        """Fill in the defaults that depend on other keys: on the app's name, on `host`, and on `endpoint` and the like.

        The context of the validation is the destination, which has a directory of its own in the bucket.
        """
        if not isinstance(data, dict):
            return data
        app = _parse_or_none(values.app_name, data.get("app"))
        data = _with_defaults(data, "release", {"name": _release_name(data.get("app"))})
        for section, defaults in derived_defaults(app, info.context, data).items():
            data = _with_defaults(data, section, defaults)
        host = _parse_or_none(values.parse_host, data.get("host"))
        return _with_defaults(data, "ssh", {"provision_user": host.user, "port": host.port} if host else {})

    @field_validator("domains")
    @classmethod
    def _domains(cls, domains: tuple[Domain, ...]) -> tuple[Domain, ...]:
        refuse(_domain_mistakes(domains))
        return domains

    @model_validator(mode="after")
    def _check(self) -> Config:
        refuse(_contradictions(self))
        return self

    @property
    def instance_name(self) -> str:
        """The name that everything of the app on the host begins with."""
        return self.app

    @property
    def backed_up(self) -> bool:
        """Whether the app's data streams to backup.bucket."""
        return self.database.engine in BACKED_UP and self.backup.enabled

    @property
    def names(self) -> tuple[str, ...]:
        """The names at which the app answers; the first is the main one."""
        return tuple(domain.name for domain in self.domains if not domain.redirect_to)

    @property
    def own_certificates(self) -> tuple[Domain, ...]:
        """The names whose certificates are the team's own."""
        return tuple(domain for domain in self.domains if domain.certificate)

    @property
    def parsed_host(self) -> Host:
        """The parts of `host`: an address or an alias of ssh, and the user and port if `host` has them."""
        return values.parse_host(self.host)


def _with_defaults(data: dict[Any, Any], section: str, defaults: dict[str, Any]) -> dict[Any, Any]:
    """The data with defaults for the keys that the section does not set; None is no default."""
    keys = {} if data.get(section) is None else data[section]
    if not isinstance(keys, dict):
        return data
    return {**data, section: {**{key: value for key, value in defaults.items() if value is not None}, **keys}}


def _release_name(app: object) -> str | None:
    try:
        return values.release_name(app.replace("-", "_")) if isinstance(app, str) else None
    except ValueError:
        return None


def _parse_or_none(parse: Callable[[object], T], value: object) -> T | None:
    try:
        return parse(value)
    except ValueError:
        return None


def _names(data: object) -> tuple[str, ...]:
    names = () if data is None else data
    if not isinstance(names, list | tuple):
        raise ValueError(f"must be a list of names; {_ELSEWHERE}")
    mistakes: Mistakes = []
    for index, name in enumerate(names):
        what = _name_mistake(name) or ("is there twice: keep one" if name in names[:index] else "")
        mistakes += [((index,), what)] if what else []
    refuse(mistakes)
    return tuple(names)


def _name_mistake(name: object) -> str:
    if not isinstance(name, str) or name_mistake(name):
        return f"must be a name alone, such as SECRET_KEY_BASE; {_ELSEWHERE}"
    return f"{name} is refused: {why}" if (why := env_reason(name)) else ""


def _domain_mistakes(domains: tuple[Domain, ...]) -> Mistakes:
    main = list(dict.fromkeys(domain.name for domain in domains if not domain.redirect_to))
    mistakes: Mistakes = []
    if not domains or domains[0].redirect_to:
        mistakes.append(((), "must begin with a name that does not redirect: the main one"))
    for index, domain in enumerate(domains):
        if domain.name in [other.name for other in domains[:index]]:
            mistakes.append(((index,), f"{domain.name} is there twice: keep one"))
        elif main and domain.redirect_to and domain.redirect_to not in main:
            what = f"must be one of the names that do not redirect: {', '.join(main)}"
            mistakes.append(((index, "redirect_to"), what))
    return mistakes


def _contradictions(config: Config) -> Mistakes:
    checks = (_host_mistakes, _user_mistakes, _database_mistakes, _secret_mistakes, _accessory_mistakes)
    return [mistake for check in checks for mistake in check(config)]


def _secret_mistakes(config: Config) -> Mistakes:
    backup = config.backup
    keys = (backup.access_key_id, backup.secret_access_key, backup.encryption_key) if config.backed_up else ()
    certified = (domain.key for domain in config.own_certificates if domain.key)
    urls = (receiver.url for receiver in config.notify)
    names = {*config.env.secret, *keys, *urls, *certified}
    what = "is not in env.secret: name it there, or leave the command out"
    mistakes: Mistakes = [
        (("secrets", "commands", name), what) for name in config.secrets.commands if name not in names
    ]
    if config.secrets.password_env in {*names, *config.env.clear}:
        what = f"{config.secrets.password_env} is one of the secrets that it opens: use another name"
        mistakes.append((("secrets", "password_env"), what))
    return mistakes


def _database_mistakes(config: Config) -> Mistakes:
    return contradictions(config.database, config.backup, config.env.clear, config.env.secret)


def _accessory_mistakes(config: Config) -> Mistakes:
    taken = {**dict.fromkeys(config.env.clear, "env.clear"), **dict.fromkeys(config.env.secret, "env.secret")}
    if config.database.engine != "none":
        taken["DATABASE_URL"] = "database"
    return accessories.contradictions(config.accessories, taken)


def _host_mistakes(config: Config) -> Mistakes:
    host, mistakes = values.parse_host(config.host), Mistakes()
    if host.port and host.port != config.ssh.port:
        mistakes.append((("ssh", "port"), f"differs from the port in host, {host.port}: keep one of the two"))
    if host.user and host.user != config.ssh.provision_user:
        what = f"differs from the user in host, {host.user}: keep one of the two"
        mistakes.append((("ssh", "provision_user"), what))
    return mistakes


def _user_mistakes(config: Config) -> Mistakes:
    mistakes = Mistakes()
    if config.ssh.user == config.ssh.provision_user:
        mistakes.append((("ssh", "user"), f"must be another than the one who provisions, {config.ssh.user}"))
    if config.ssh.user in (config.app, config.app + BUILD_SUFFIX):
        mistakes.append((("ssh", "user"), "must be another than the app's own users"))
    if config.release.build == "host" and len(config.app + BUILD_SUFFIX) > LONGEST_USER:
        most = LONGEST_USER - len(BUILD_SUFFIX)
        mistakes.append((("app",), f"must have at most {most} characters where releases are built on the host"))
    return mistakes
