"""Checks the maps of variables in deploy.yml."""

from __future__ import annotations

from collections.abc import Callable

from homeport.config import values
from homeport.config.fields import Found
from homeport.config.values import refuse


def variables(data: object, reason: Callable[[str], str]) -> dict[str, str]:
    """The map of variables. Raises MistakesError with every mistake, without the values, which may be secrets."""
    given = {} if data is None else data
    if not isinstance(given, dict):
        raise ValueError("must be a map of names to values")
    found: Found = []
    for name, value in given.items():
        refused = f"is refused: {why}" if (why := reason(name)) else ""
        what = no_variable(str(name)) or refused or _no_value(value)
        found += [((name,), what)] if what else []
    refuse(found)
    return given


def no_variable(name: str) -> str:
    """Why this cannot be a variable's name; "" if it can."""
    try:
        values.matching(r"[A-Z_][A-Z0-9_]{0,127}", "a name in capitals, such as POOL_SIZE")(name)
    except ValueError as error:
        return str(error)
    return ""


def _no_value(value: object) -> str:
    if value is None:
        return 'has no value: write "" for an empty one'
    if not isinstance(value, str):
        return "must be text, not a map or a list"
    bad = any((character < " " and character not in "\t\n") or character == "\x7f" for character in value)
    return "holds a control character, which no environment file can carry" if bad else ""
