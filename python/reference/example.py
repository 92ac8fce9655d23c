"""The commented deploy.yml that `deploy init` fills in: every key with its default and its description."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from homeport.config.database import ENGINES
from homeport.config.descriptions import inner_section, of_fields
from homeport.config.fields import Section
from homeport.config.model import Config

WIDTH = 120
HEAD = """\
# yaml-language-server: $schema=.deploy.schema.json
# deploy.yml: what this app is called, where it runs, and how it is deployed.
# A # before a key shows the key's default: remove the # to set the key. `deploy config --explain` shows the effective
# values and where each comes from. Another destination of the same app is a file of its own, deploy.staging.yml, which
# holds only what differs: `deploy -d staging push`; on the same host that is at least a name (app: shop-staging) and
# domains. The destination `sandbox` is built in.
"""
# what is set in the example; the other keys are shown with their defaults
SET: dict[str, Any] = {
    "app": "shop",
    "host": "203.0.113.10",
    "domains": ["shop.example.com"],
    "release.name": "shop",
    "release.commands.migrate": "bin/migrate",
    "env.clear": {},
    "env.secret": ["SECRET_KEY_BASE"],
    "database.engine": "none",
    "health.path": "/health",
}
LEAST = {"app": "shop", "host": "192.0.2.1", "domains": ["shop.example.org"]}


def text() -> str:
    """The example as a file."""
    defaults = Config.model_validate(LEAST).model_dump(mode="json", context="person")
    return HEAD + "\n" + "\n".join(_keys(Config, "", defaults))


def _keys(section: type[Section], path: str, values: dict[str, Any]) -> Iterator[str]:
    indent = "  " * path.count(".")
    said = of_fields(section)
    for name, field in section.model_fields.items():
        inner = _only_section(field.annotation)
        engines = ENGINES.get((path.removesuffix("."), name), ())
        yield from _comment(f"{', '.join(engines)}: {said[name]}" if engines else said[name], indent)
        if inner is not None:
            yield f"{indent}{name}:"
            yield from _keys(inner, f"{path}{name}.", values[name])
        else:
            yield _value(path + name, name, values[name], indent) + "\n"


def _only_section(annotation: Any) -> type[Section] | None:
    """The section that a key holds; None for a plain value, and for a list or map of sections."""
    inner = inner_section(annotation)
    return inner if inner is annotation else None


def _comment(said: str, indent: str) -> Iterator[str]:
    paragraph, _, example = said.partition("\n\n")
    width = WIDTH - len(indent) - 2
    lines = textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False)
    yield from (f"{indent}# {line}" for line in (*lines, *textwrap.indent(textwrap.dedent(example), "  ").splitlines()))


def _value(path: str, name: str, default: Any, indent: str) -> str:
    if path not in SET:
        return f"{indent}#{name}: {_inline(default)}"
    given = SET[path]
    if isinstance(given, list):
        return "\n".join([f"{indent}{name}:", *(f"{indent}  - {each}" for each in given)])
    return f"{indent}{name}: {_inline(given)}"


def _inline(value: Any) -> str:
    if value == ".":
        return '"."'
    told = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return told.removesuffix("\n").removesuffix("\n...")
