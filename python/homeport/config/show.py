"""Formats the effective configuration: as YAML or a table for people, as plain data for programs."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from textwrap import fill, indent
from typing import Any

import yaml

from homeport.config import cost
from homeport.config.database import ENGINES
from homeport.config.descriptions import every_key
from homeport.config.layers import Loaded, leaves
from homeport.core.errors import ExitCode, HomeportError
from hostctl.common.documents import Json
from hostctl.common.table import columns


def document(loaded: Loaded) -> Json:
    """All keys that apply to this configuration, durations in seconds, sizes in bytes, secrets by name only."""
    return _applicable(loaded, loaded.config.model_dump(mode="json"))


def _applicable(loaded: Loaded, dumped: Json) -> Json:
    """The dumped configuration without the keys of other database engines than the app's."""
    engine = loaded.config.database.engine
    others = {path for path, engines in ENGINES.items() if engine != "none" and engine not in engines}
    sections = {
        section: {key: value for key, value in keys.items() if (section, key) not in others}
        for section, keys in dumped.items()
        if section in ("database", "backup") and (section, engine) != ("backup", "external")
    }
    return {key: sections.get(key, value) for key, value in dumped.items() if key != "backup" or key in sections}


def as_yaml(loaded: Loaded) -> str:
    """The configuration as a deploy.yml with every default written out."""
    return yaml.safe_dump(_readable(loaded), sort_keys=False, allow_unicode=True, width=110)


def rows(loaded: Loaded) -> list[Json]:
    """One row per key: its value, and the layer that set it; for a file with the line."""
    values = leaves(document(loaded))
    return [_row(key, value, loaded) for key, value in values.items()]


def _row(key: str, value: Any, loaded: Loaded) -> Json:
    origin = loaded.origin[key]
    return {"key": key, "value": value, "layer": origin.layer, "line": origin.line or None}


def describe(loaded: Loaded, keys: Iterable[str]) -> list[Json]:
    """The description of each key and of the keys below it, with value and origin if it has a value.

    Raises HomeportError (usage) for an unknown key.
    """
    described, values = every_key(), leaves(_readable(loaded))
    rows = []
    for key in keys:
        below = [each for each in described if each == key or each.startswith((f"{key}.", f"{key}["))]
        if not below:
            raise _unknown_key(key, described)
        rows += [_description_row(each, described[each], values, loaded) for each in below]
    return rows


def _unknown_key(key: str, described: Iterable[str]) -> HomeportError:
    near = get_close_matches(key, described, n=3)
    fix = f"name {' or '.join(near)}" if near else "deploy docs deploy.yml lists every key"
    return HomeportError(f"deploy.yml has no key {key}", "", fix, ExitCode.USAGE)


def _description_row(key: str, description: str, values: Json, loaded: Loaded) -> Json:
    row: Json = {"key": key, "description": description}
    return {**row, "value": values[key], "origin": str(loaded.origin[key])} if key in values else row


def as_paragraphs(rows: list[Json]) -> str:
    """The explained keys as text: a line with key, value and origin, and below it the description."""
    return "\n\n".join(f"{_heading(row)}\n{_paragraph(row['description'])}" for row in rows)


def _heading(row: Json) -> str:
    return f"{row['key']}: {_inline(row['value'])}  ({row['origin']})" if "value" in row else f"{row['key']}:"


def _paragraph(description: str) -> str:
    paragraph, _, example = description.partition("\n\n")
    lines = fill(paragraph, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return f"{lines}\n{indent(example, '  ')}" if example else lines


def as_table(loaded: Loaded) -> str:
    """The rows as text in columns, and the cost of the backup."""
    values = leaves(_readable(loaded))
    lines = columns([(key, _inline(value), str(loaded.origin[key])) for key, value in values.items()])
    return "\n".join([*lines, *filter(None, [cost.summary(loaded.config)])])


def _readable(loaded: Loaded) -> Json:
    return _applicable(loaded, loaded.config.model_dump(mode="json", context="person"))


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
