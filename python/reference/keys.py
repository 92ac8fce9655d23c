"""The reference of deploy.yml: every key with its kind, its default and its description, from the model."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from homeport.config.accessories import KINDS
from homeport.config.database import ENGINES
from homeport.config.descriptions import inner_section, of_fields, separator
from homeport.config.fields import PATTERNS, Section
from homeport.config.model import Config
from hostctl.common.documents import Json
from reference import json_schema

WIDTH = 120
HEAD = """\
# deploy.yml

Every key, in the order of the commented example that `deploy init` fills in. `deploy config` prints the effective
values, `deploy config --explain` where each comes from. This page is generated from the model by `bin/reference`.

* A *duration* is `500ms`, `30s`, `5m`, `1h` or a number of seconds; a *time span* may also be `7d`. A *size* is `512M`,
  `2G` or a number of bytes.
* `deploy.DESTINATION.yml` beside `deploy.yml` holds what differs for `deploy -d DESTINATION`. Maps are merged key by
  key; lists and single values are replaced.
* An unknown key is refused, with its line and the key that was probably meant.
* `deploy init` writes a JSON Schema beside deploy.yml, `.deploy.schema.json`, and names it in the first line, so that
  editors complete and check the keys. Commit both. After an upgrade of Homeport, renew it:
  `deploy docs schema > .deploy.schema.json`.

"""
NAMES = {pattern: name for name, pattern in PATTERNS.items()}


def page() -> str:
    """The page, in Markdown."""
    plain = [name for name in Config.model_fields if not inner_section(Config.model_fields[name].annotation)]
    top = "## Top level\n\n" + "".join(_key(Config, name, "") for name in plain)
    return HEAD + "\n".join([top, *(_section(name) for name in Config.model_fields if name not in plain)])


def _section(name: str) -> str:
    field = Config.model_fields[name]
    inner = inner_section(field.annotation)
    assert inner is not None  # noqa: S101 - page() asks for sections alone
    required = "Required. " if field.is_required() else ""
    keys = "".join(_keys(inner, f"{name}{separator(field.annotation)}."))
    return f"## {name}\n\n{_wrapped(required + of_fields(Config)[name])}\n\n{keys}"


def _keys(section: type[Section], path: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if inner := inner_section(field.annotation):
            yield from _keys(inner, f"{path}{name}{separator(field.annotation)}.")
        else:
            yield _key(section, name, path)


def _key(section: type[Section], name: str, path: str) -> str:
    told = [kind(_property(section, name)), _default(section, name), *_only_for(path, name)]
    return (
        f"* **`{path}{name}`** ({'; '.join(told)})\n\n{textwrap.indent(_wrapped(of_fields(section)[name]), '  ')}\n\n"
    )


def _only_for(path: str, name: str) -> list[str]:
    """The engines or kinds of accessories that understand the key, where not all do."""
    accessory = KINDS.get(name, ()) if path.startswith("accessories.") else ()
    understood = accessory or ENGINES.get((path.removesuffix("."), name), ())
    return [f"only {' and '.join(understood)}"] if understood else []


def _default(section: type[Section], name: str) -> str:
    if name in _object(section).get("required", ()):
        return "required"
    default = _property(section, name).get("default")
    return "optional" if default is None else f"default `{_yaml(default)}`"


def _yaml(default: Any) -> str:
    return default if isinstance(default, str) else json.dumps(default)


@cache
def _schema() -> Json:
    return json_schema.schema()


def _object(section: type[Section]) -> Json:
    """The section in the schema, as an object."""
    told: Json = _schema() if section is Config else _schema()["$defs"][section.__name__]
    return next(each for each in (told, *told.get("anyOf", ())) if "properties" in each)


def _property(section: type[Section], name: str) -> Json:
    found: Json = _object(section)["properties"][name]
    return found


def kind(told: Json) -> str:
    """What kind of value a property takes, in a few words."""
    if "anyOf" in told:
        return kind(next(each for each in told["anyOf"] if each != {"type": "null"}))
    if "enum" in told:
        return " | ".join(told["enum"])
    if told.get("pattern") in NAMES:
        return NAMES[told["pattern"]]
    return {
        "string": "text",
        "integer": "whole number",
        "boolean": "true | false",
        "array": "list",
        "object": "map",
    }.get(str(told["type"]), str(told["type"]))


def _wrapped(text: str) -> str:
    """The text in lines of the page's width; what is indented becomes a block of YAML."""
    paragraph, _, example = text.partition("\n\n")
    lines = textwrap.fill(paragraph, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return f"{lines}\n\n```yaml\n{textwrap.dedent(example)}\n```" if example else lines
