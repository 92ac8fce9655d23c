"""The base class of the sections of deploy.yml, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializationInfo,
    WithJsonSchema,
    model_validator,
)

from homeport.config import values
from homeport.config.problems import Path

Mistakes = list[tuple[Path, str]]


def readable(show: Callable[[Any], str]) -> PlainSerializer:
    """A serializer that keeps numbers, except with `model_dump(context="person")`, which writes them as deploy.yml."""

    def serialise(value: Any, info: SerializationInfo) -> Any:
        return show(value) if info.context == "person" else value

    return PlainSerializer(serialise)


def between(least: int, most: int) -> WithJsonSchema:
    """The JSON Schema of a whole number between two limits."""
    return WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


_duration = readable(values.show_duration)
# how these values are written in deploy.yml, for its JSON Schema and reference
PATTERNS = {
    "duration": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$",
    "time span": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h)|[0-9]+d)$",
    "size": r"^[0-9]+[KMGT]?(i?B)?$",
}
DURATION = WithJsonSchema({"type": ["string", "number"], "pattern": PATTERNS["duration"]})
SPAN = WithJsonSchema({"type": ["string", "number"], "pattern": PATTERNS["time span"]})
SIZE = WithJsonSchema({"type": ["string", "integer"], "pattern": PATTERNS["size"]})
Seconds = Annotated[float, BeforeValidator(values.duration(0.0)), _duration, DURATION]
Interval = Annotated[float, BeforeValidator(values.duration(0.05, 60.0)), _duration, DURATION]
Span = Annotated[float, BeforeValidator(values.span(10.0, 3650 * values.DAY_SECONDS)), readable(values.show_span), SPAN]
Timeout = Annotated[float, BeforeValidator(values.duration(1.0, 3600.0)), _duration, DURATION]
Wait = Annotated[float, BeforeValidator(values.duration(0.05, 3600.0)), _duration, DURATION]
Limit = Annotated[float, BeforeValidator(values.duration(1.0)), _duration, DURATION]
Bytes = Annotated[int, BeforeValidator(values.size(values.LEAST_MEMORY)), readable(values.show_size), SIZE]
LogBytes = Annotated[int, BeforeValidator(values.size(values.LEAST_LOG)), readable(values.show_size), SIZE]
Cores = Annotated[float, BeforeValidator(values.cores)]
AppName = Annotated[str, BeforeValidator(values.app_name)]
ReleaseName = Annotated[str, BeforeValidator(values.release_name)]
HostText = Annotated[str, BeforeValidator(values.host)]
DomainName = Annotated[str, BeforeValidator(values.domain_name)]
Command = Annotated[str, BeforeValidator(values.command)]
PathText = Annotated[str, BeforeValidator(values.path)]
UrlPath = Annotated[str, BeforeValidator(values.url_path)]
HttpsUrl = Annotated[str, BeforeValidator(values.https_url)]
Email = Annotated[str, BeforeValidator(values.email)]
Flag = Annotated[bool, BeforeValidator(values.boolean)]
FileName = Annotated[str, BeforeValidator(values.database_file)]
CredentialName = Annotated[str, BeforeValidator(values.secret_name("BACKUP_SECRET_ACCESS_KEY"))]
UrlName = Annotated[str, BeforeValidator(values.secret_name("DATABASE_URL"))]
KeyName = Annotated[str, BeforeValidator(values.secret_name("SHOP_CERTIFICATE_KEY"))]
PasswordVariable = Annotated[str, BeforeValidator(values.password_variable)]
KeyringEntry = Annotated[str, BeforeValidator(values.keyring_entry)]
Program = Annotated[str, BeforeValidator(values.program)]
Sql = Annotated[str, BeforeValidator(values.sql)]
Address = Annotated[str, BeforeValidator(values.address)]
OPEN_PORT = WithJsonSchema({"type": ["string", "integer"], "pattern": r"^[0-9]+(/(tcp|udp))?$"})
OpenPort = Annotated[str, BeforeValidator(values.open_port), OPEN_PORT]
Port = Annotated[int, BeforeValidator(values.whole_number(1, 65535)), between(1, 65535)]


class Section(BaseModel):
    """A map of keys. An empty one is equivalent to a missing one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, data: object) -> object:
        return {} if data is None else data
