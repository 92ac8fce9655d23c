"""Checks the maps of variables in deploy.yml."""

from __future__ import annotations

from collections.abc import Callable

from homeport.config import values
from homeport.config.fields import Mistakes
from homeport.config.values import refuse


def variables(data: object, reason: Callable[[str], str]) -> dict[str, str]:
    """The map of variables. Raises MistakesError with every mistake, without the values, which may be secrets."""
    entries = {} if data is None else data
    if not isinstance(entries, dict):
        raise ValueError("must be a map of names to values")
    mistakes: Mistakes = []
    for name, value in entries.items():
        refused = f"is refused: {why}" if (why := reason(name)) else ""
        what = name_mistake(str(name)) or refused or _value_mistake(value)
        mistakes += [((name,), what)] if what else []
    refuse(mistakes)
    return entries


def name_mistake(name: str) -> str:
    """Why the name cannot be a variable's; "" if it can."""
    try:
        values.matching(r"[A-Z_][A-Z0-9_]{0,127}", "a name in capitals, such as POOL_SIZE")(name)
    except ValueError as error:
        return str(error)
    return ""


def _value_mistake(value: object) -> str:
    if value is None:
        return 'has no value: write "" for an empty one'
    if not isinstance(value, str):
        return "must be text, not a map or a list"
    bad = any((character < " " and character not in "\t\n") or character == "\x7f" for character in value)
    return "holds a control character, which no environment file can carry" if bad else ""
