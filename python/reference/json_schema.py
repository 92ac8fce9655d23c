"""The JSON Schema of deploy.yml, for editors and other tools. `deploy config` checks more than a schema can say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from homeport.config import values
from homeport.config.descriptions import inner_section, of_fields
from homeport.config.fields import PATTERNS, Section
from homeport.config.model import Config
from hostctl.common.documents import Json

DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that every editor knows


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    inner = (inner_section(field.annotation) for field in section.model_fields.values())
    yield from (each for one in inner if one for each in _sections(one))


SECTIONS = {each.__name__: each for each in _sections(Config)}
# how a number is written in deploy.yml, by the pattern of its text
SHOWN: dict[str, Callable[[Any], Any]] = {
    PATTERNS["duration"]: values.show_duration,
    PATTERNS["time span"]: values.show_span,
    PATTERNS["size"]: values.show_size,
}
# a variable's value may be written without quotes
SCALAR = ["string", "number", "boolean"]
# maps whose values are such
VARIABLES = {("Env", "clear"), ("Release", "env"), ("Accessory", "env"), ("Database", "parameters")}
# lists and maps that may be left empty: `cron:` with nothing below it
NULLABLE = {("Config", name) for name in ("accessories", "cron", "notify")} | {("Env", "clear"), ("Env", "secret")}


def text() -> str:
    """The schema as a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> Json:
    """The schema as plain data."""
    whole = Config.model_json_schema()
    kinds = {name: _section(SECTIONS[name], each) for name, each in whole["$defs"].items()}
    kinds["Domain"] = _or(kinds["Domain"], {"type": "string"})
    kinds["Accessory"] = _or({**kinds["Accessory"], "required": []}, {"type": "null"})
    top = _section(Config, {key: each for key, each in whole.items() if key != "$defs"})
    return {"$schema": DIALECT, "title": "deploy.yml", **top, "$defs": kinds}


def _or(section: Json, other: Json) -> Json:
    return {"description": section["description"], "anyOf": [section, other]}


def _section(section: type[Section], told: Json) -> Json:
    said = of_fields(section)
    properties = {
        name: {"description": said[name], **_property((section.__name__, name), each)}
        for name, each in told["properties"].items()
    }
    required = {"required": told["required"]} if "required" in told else {}
    described = {"description": " ".join((section.__doc__ or "").split()), "type": "object"}
    return {**described, "additionalProperties": False, **required, "properties": properties}


def _property(at: tuple[str, str], told: Json) -> Json:
    shape = {key: each for key, each in told.items() if key not in ("title", "default")}
    if at in VARIABLES:
        shape["additionalProperties"] = {"type": SCALAR}
    default = _default(told)
    if at in NULLABLE or "$ref" in shape:
        shape = {"anyOf": [shape, {"type": "null"}]}
    return shape if default is None else {**shape, "default": default}


def _default(told: Json) -> Any:
    """The default as deploy.yml writes it; None where other keys decide it, or where it is a section."""
    default = told.get("default")
    if default in (None, "") or "$ref" in told:
        return None
    return SHOWN.get(told.get("pattern", ""), lambda same: same)(default)
