"""The effective configuration as text: for a person as YAML or a table, for a program as plain data."""

from __future__ import annotations

from typing import Any

import yaml

from homeport.config import cost
from homeport.config.database import ENGINES
from homeport.config.layers import Loaded, leaves

Json = dict[str, Any]


def document(loaded: Loaded) -> Json:
    """All keys that mean anything here, durations in seconds and sizes in bytes. Of secrets only the names."""
    return _meant(loaded, loaded.config.model_dump(mode="json"))


def _meant(loaded: Loaded, told: Json) -> Json:
    """Without the keys of another kind of database than the app's."""
    engine = loaded.config.database.engine
    others = {path for path, engines in ENGINES.items() if engine != "none" and engine not in engines}
    sections = {
        section: {key: value for key, value in keys.items() if (section, key) not in others}
        for section, keys in told.items()
        if section in ("database", "backup") and (section, engine) != ("backup", "external")
    }
    return {key: sections.get(key, value) for key, value in told.items() if key != "backup" or key in sections}


def as_yaml(loaded: Loaded) -> str:
    """The same as a deploy.yml that needs no defaults."""
    return yaml.safe_dump(_for_a_person(loaded), sort_keys=False, allow_unicode=True, width=110)


def rows(loaded: Loaded) -> list[Json]:
    """One row a key: its value, and the layer that set it, with file and line where it is a file."""
    values = leaves(document(loaded))
    return [_row(key, value, loaded) for key, value in values.items()]


def _row(key: str, value: Any, loaded: Loaded) -> Json:
    origin = loaded.origin[key]
    return {"key": key, "value": value, "layer": origin.layer, "line": origin.line or None}


def as_table(loaded: Loaded) -> str:
    """The rows for a person, in columns, and what the backup costs."""
    values = {key: _inline(value) for key, value in leaves(_for_a_person(loaded)).items()}
    left, middle = (max(map(len, column)) for column in (values, values.values()))
    lines = [f"{key:<{left}}  {value:<{middle}}  {loaded.origin[key]}" for key, value in values.items()]
    return "\n".join([*lines, *filter(None, [cost.told(loaded.config)])])


def _for_a_person(loaded: Loaded) -> Json:
    return _meant(loaded, loaded.config.model_dump(mode="json", context="person"))


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
