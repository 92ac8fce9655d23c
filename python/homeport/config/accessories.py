"""Other services that the app needs on its host, as deploy.yml names them: the app's own Redis, Valkey or Memcached,
or any unit of a Debian package.
"""

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

from homeport.config.fields import Bytes, Flag, Found, PathText, Section
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
# what the host itself stands on, and what Homeport keeps for itself
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
            refuse([(("kind",), f"is required: one of {', '.join(OWN)}; or package, for what a Debian package brings")])
        return {"kind": PACKAGE, **data}

    @field_validator("env", mode="before")
    @classmethod
    def _env(cls, data: object) -> dict[str, str]:
        return variables(data, env_reason)

    @field_validator("files", mode="after")
    @classmethod
    def _files(cls, files: dict[str, str]) -> dict[str, str]:
        refuse([((name,), what) for name in files if (what := _no_target(name))])
        return files

    @model_validator(mode="after")
    def _meant(self) -> Accessory:
        found: Found = [
            ((key,), f"means nothing to {self.kind}: it is for {' and '.join(kinds)}")
            for key, kinds in KINDS.items()
            if key in self.model_fields_set and self.kind not in kinds
        ]
        if self.kind == PACKAGE and self.package is None:
            found.append((("package",), "is required: the Debian package that brings the service"))
        refuse(found)
        return self

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of other kinds: what is shown can be read again."""
        return {key: value for key, value in dump(self).items() if self.kind in KINDS.get(key, (self.kind,))}

    @property
    def unit_name(self) -> str:
        """The unit that a package's service runs in: by default named after it."""
        return self.unit or f"{self.package}.service"


def variable(name: str) -> str:
    """The variable by which the app finds an accessory of a kind in OWN."""
    return f"{name.upper().replace('-', '_')}_URL"


def given(accessories: dict[str, Accessory]) -> dict[str, str]:
    """Every variable that the accessories set for the app, with the name of the accessory."""
    own = {variable(name): name for name, one in accessories.items() if one.kind in OWN}
    return own | {each: name for name, one in accessories.items() for each in one.env}


def environment(accessories: dict[str, Accessory]) -> dict[str, str]:
    """The variables whose values are in deploy.yml. Those of OWN hold passwords, which only the host has."""
    return {each: text for one in accessories.values() for each, text in one.env.items()}


def named(data: Any) -> Any:
    """The accessories, with the kinds that their names imply. Raises MistakesError for an invalid name."""
    told = {} if data is None else data
    if not isinstance(told, dict):
        raise ValueError("must be a map of names to what they are, such as {redis: {}}")
    refuse([((name,), what) for name in told if (what := _no_name(str(name)))])
    return {name: _with_kind(str(name), one) for name, one in told.items()}


def _no_name(name: str) -> str:
    return _refused(_name, name)


def _no_target(name: str) -> str:
    """Why a file may not be written there; "" if it may."""
    taken = "belongs to the host itself or to Homeport" if name.startswith(_TAKEN_PLACES) else ""
    return _refused(_target, name) or taken


def _refused(parse: Callable[[object], str], name: str) -> str:
    try:
        parse(name)
    except ValueError as error:
        return str(error)
    return ""


def _with_kind(name: str, one: Any) -> Any:
    told = {} if one is None else one
    if not isinstance(told, dict) or "kind" in told or "package" in told or name not in OWN:
        return told
    return {"kind": name, **told}


def wrong_together(accessories: dict[str, Accessory], taken: dict[str, str]) -> Found:
    """The mistakes for variables that are set twice. `taken`: variables with a value already, and their places."""

    found: Found = []
    seen = dict(taken)
    for name, one in accessories.items():
        for each in (variable(name),) if one.kind in OWN else tuple(one.env):
            if each in seen:
                at = ("accessories", name) if one.kind in OWN else ("accessories", name, "env", each)
                what = f"gives the app {each}, which {seen[each]} gives as well: "
                found.append((at, what + ("name it otherwise, or drop that" if one.kind in OWN else "keep one")))
            seen[each] = f"accessories.{name}"
    return found
