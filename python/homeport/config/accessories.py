"""`accessories` in deploy.yml: the app's own Redis, Valkey or Memcached, or a service of any Debian package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from homeport.config.fields import Bytes, Flag, Mistakes, PathText, Section
from homeport.config.names import env_reason
from homeport.config.values import matching, refuse
from homeport.config.variables import variables

# kinds of which Homeport runs an instance for this app alone; other kinds are services of Debian packages
OWN = ("redis", "valkey", "memcached")
PACKAGE = "package"
# keys that apply to some kinds only
KINDS: dict[str, tuple[str, ...]] = {
    "memory": OWN,
    "persist": ("redis", "valkey"),
    "evict": ("redis", "valkey"),
    "package": (PACKAGE,),
    "unit": (PACKAGE,),
    "env": (PACKAGE,),
    "files": (PACKAGE,),
}
DEFAULT_MEMORY = 128 * 2**20
# packages, units and files that belong to the host itself or to Homeport
_TAKEN = ("caddy", "dbus", "ssh", "sshd", "sudo")
_TAKEN_PREFIXES = ("systemd-", "homeport-", "postgresql")
_TAKEN_PLACES = tuple(
    f"/etc/{name}" for name in ("caddy/", "cron", "homeport/", "pam.d/", "passwd", "shadow", "ssh/", "sudo", "systemd/")
)

_name = matching(r"[a-z][a-z0-9-]{0,19}", "a name in lower-case letters, digits and -, at most 20, such as redis")
_package = matching(r"[a-z0-9][a-z0-9+.-]{1,99}", "the name of a Debian package, such as mosquitto")
_target = matching(
    r"/etc(/[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}){1,10}", "a file below /etc, such as /etc/mosquitto/conf.d/shop.conf"
)
_unit = matching(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}\.service", "the name of a unit, such as mosquitto.service")


def _package_name(value: object) -> str:
    name = _package(value)
    if name in _TAKEN:
        raise ValueError(f"{name} belongs to the host itself")
    return name


def _unit_name(value: object) -> str:
    name = _unit(value)
    if name.removesuffix(".service") in _TAKEN or name.startswith(_TAKEN_PREFIXES):
        raise ValueError(f"{name} belongs to the host itself or to Homeport")
    return name


class Accessory(Section):
    """One service beside the app. Its name implies `kind` if it is one of OWN."""

    kind: Literal["redis", "valkey", "memcached", "package"]
    """redis, valkey or memcached: an instance of the distribution's program for this app alone; package: any service of
    a Debian package. It may be left out if the name of the accessory implies it, or if `package` is set.
    """

    memory: Bytes = DEFAULT_MEMORY
    """The most memory that the data may take."""

    persist: Flag = True
    """Whether the data survives a restart."""

    evict: Flag = False
    """What happens when `memory` is used up: true evicts the least used data, false refuses writes."""

    package: Annotated[str, BeforeValidator(_package_name)] | None = None
    """The Debian package that contains the service. A service that listens on a public address is refused and stopped.
    """

    unit: Annotated[str, BeforeValidator(_unit_name)] | None = None
    """The systemd unit of the service. By default the package's name."""

    env: dict[str, str] = Field(default_factory=dict)
    """Variables that the app receives for this service."""

    files: dict[str, PathText] = Field(default_factory=dict)
    """Configuration files of the service: their path below /etc, and their path relative to deploy.yml."""

    @model_validator(mode="before")
    @classmethod
    def _kind(cls, data: object) -> object:
        if not isinstance(data, dict) or "kind" in data:
            return data
        if "package" not in data:
            refuse(
                [(("kind",), f"is required: one of {', '.join(OWN)}; or package, for a service of a Debian package")]
            )
        return {"kind": PACKAGE, **data}

    @field_validator("env", mode="before")
    @classmethod
    def _env(cls, data: object) -> dict[str, str]:
        return variables(data, env_reason)

    @field_validator("files", mode="after")
    @classmethod
    def _files(cls, files: dict[str, str]) -> dict[str, str]:
        refuse([((name,), what) for name in files if (what := _target_mistake(name))])
        return files

    @model_validator(mode="after")
    def _check(self) -> Accessory:
        mistakes: Mistakes = [
            ((key,), f"does not apply to {self.kind}: it is for {' and '.join(kinds)}")
            for key, kinds in KINDS.items()
            if key in self.model_fields_set and self.kind not in kinds
        ]
        if self.kind == PACKAGE and self.package is None:
            mistakes.append((("package",), "is required: the Debian package with the service"))
        refuse(mistakes)
        return self

    @model_serializer(mode="wrap")
    def _serialise(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of other kinds, which reading the output again would refuse."""
        return {key: value for key, value in dump(self).items() if self.kind in KINDS.get(key, (self.kind,))}

    @property
    def unit_name(self) -> str:
        """The unit of the package's service, by default named after the package."""
        return self.unit or f"{self.package}.service"


def variable(name: str) -> str:
    """The variable by which the app finds an accessory of a kind in OWN."""
    return f"{name.upper().replace('-', '_')}_URL"


def variables_set(accessories: dict[str, Accessory]) -> dict[str, str]:
    """Every variable that the accessories set for the app, with the name of the accessory."""
    urls = {variable(name): name for name, accessory in accessories.items() if accessory.kind in OWN}
    return urls | {key: name for name, accessory in accessories.items() for key in accessory.env}


def environment(accessories: dict[str, Accessory]) -> dict[str, str]:
    """The variables whose values are in deploy.yml. Those of OWN hold passwords, which only the host has."""
    return {key: text for accessory in accessories.values() for key, text in accessory.env.items()}


def with_kinds(data: Any) -> Any:
    """The accessories, with the kinds that their names imply. Raises MistakesError for an invalid name."""
    accessories = {} if data is None else data
    if not isinstance(accessories, dict):
        raise ValueError("must be a map of names to services, such as {redis: {}}")
    refuse([((name,), what) for name in accessories if (what := _name_mistake(str(name)))])
    return {name: _with_kind(str(name), accessory) for name, accessory in accessories.items()}


def _name_mistake(name: str) -> str:
    return _mistake(_name, name)


def _target_mistake(name: str) -> str:
    """Why Homeport may not write a file at this path; "" if it may."""
    taken = "belongs to the host itself or to Homeport" if name.startswith(_TAKEN_PLACES) else ""
    return _mistake(_target, name) or taken


def _mistake(parse: Callable[[object], str], name: str) -> str:
    try:
        parse(name)
    except ValueError as error:
        return str(error)
    return ""


def _with_kind(name: str, accessory: Any) -> Any:
    keys = {} if accessory is None else accessory
    if not isinstance(keys, dict) or "kind" in keys or "package" in keys or name not in OWN:
        return keys
    return {"kind": name, **keys}


def contradictions(accessories: dict[str, Accessory], taken: dict[str, str]) -> Mistakes:
    """The mistakes for variables that are set twice. `taken`: variables with a value already, and their places."""
    mistakes: Mistakes = []
    places = dict(taken)
    for name, accessory in accessories.items():
        own = accessory.kind in OWN
        for key in (variable(name),) if own else tuple(accessory.env):
            if key in places:
                at = ("accessories", name) if own else ("accessories", name, "env", key)
                what = f"sets {key} for the app, which {places[key]} sets as well: "
                mistakes.append((at, what + ("give it another name, or remove that" if own else "keep one")))
            places[key] = f"accessories.{name}"
    return mistakes
