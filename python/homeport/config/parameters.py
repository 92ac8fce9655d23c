"""Checks PostgreSQL's settings before the server is changed, by the names, units and ranges of versions 15 and 17.

postgres.tsv is pg_settings of both (Debian 12 and 13, with the modules of the distribution's package loaded): name,
versions, type, unit, least and most value in that unit, and the words of an enum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator

from homeport.config.problems import Path, got
from homeport.config.values import refuse

VERSIONS = ("15", "17")
LONGEST_TEXT = 1000
LARGEST = 1e300  # a larger bound means that there is none


class Setting(NamedTuple):
    """A setting of one or both versions. `least` and `most` are multiples of `unit`, such as 8kB."""

    name: str
    versions: tuple[str, ...]
    kind: str
    unit: str
    least: float
    most: float
    words: tuple[str, ...]


# PostgreSQL: guc.c, memory_unit_conversion_table and time_unit_conversion_table; in bytes and in microseconds
_UNITS = (
    {"B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40},
    {"us": 1, "ms": 1000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6},
)
_NUMBER = re.compile(r"\s*([-+]?(?:0x[0-9a-f]+|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?))\s*([a-z]{0,3})\s*", re.I | re.ASCII)
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")
# the name of a setting of a module or of an app
_OF_A_MODULE = re.compile(r"[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)+", re.I | re.ASCII)

_SOCKET = "the server answers on the Unix socket of its app, and nowhere else"
_FILES = "Homeport decides where its files are"
_ARCHIVE = "the backup depends on it: see backup"
_RESTORE = "restores and drills set it for themselves"
_LOG = "the log goes to the journal"
_SAFE = "another value may lose or corrupt written data"
_ALONE = "there is no other server beside this one"
# the beginnings of the names of settings that Homeport sets itself or does not allow, each with the reason
OWN = {
    "listen_addresses": _SOCKET,
    "port": _SOCKET,
    "unix_socket_": _SOCKET,
    "ssl": _SOCKET,
    "bonjour": _SOCKET,
    "data_directory": _FILES,
    "config_file": _FILES,
    "hba_file": _FILES,
    "ident_file": _FILES,
    "external_pid_file": _FILES,
    "archive_timeout": "set backup.archive_timeout",
    "archive_": _ARCHIVE,
    "basic_archive.": _ARCHIVE,
    "wal_level": _ARCHIVE,
    "restore_command": _RESTORE,
    "recovery_": _RESTORE,
    "promote_trigger_file": _RESTORE,
    "hot_standby": _RESTORE,
    "primary_": _ALONE,
    "synchronous_standby_names": _ALONE,
    "synchronized_standby_slots": _ALONE,
    "logging_collector": _LOG,
    "log_destination": _LOG,
    "log_directory": _LOG,
    "log_file": _LOG,
    "log_rotation_": _LOG,
    "log_truncate_on_rotation": _LOG,
    "syslog_": _LOG,
    "fsync": _SAFE,
    "full_page_writes": _SAFE,
    "zero_damaged_pages": _SAFE,
    "ignore_": _SAFE,
    "allow_system_table_mods": _SAFE,
    "restart_after_crash": "the server restarts by itself",
}


@cache
def settings_by_name() -> dict[str, tuple[Setting, ...]]:
    """Every setting by its name in lower case; two where the versions differ."""
    found: dict[str, tuple[Setting, ...]] = {}
    text = files("homeport.config").joinpath("postgres.tsv").read_text(encoding="utf-8")
    for line in text.splitlines():
        setting = _setting(*line.split("\t"))
        found[setting.name.lower()] = (*found.get(setting.name.lower(), ()), setting)
    return found


def _setting(
    name: str, versions: str, kind: str, unit: str = "", least: str = "", most: str = "", words: str = ""
) -> Setting:
    bounds = float(least or "-inf"), float(most or "inf")
    return Setting(name, tuple(versions.split(",")), kind, unit, *bounds, tuple(words.split(",")) if words else ())


def parse(data: object) -> dict[str, str]:
    """The settings, each as text and under PostgreSQL's own spelling. Raises MistakesError with every mistake."""
    settings = {} if data is None else data
    if not isinstance(settings, dict):
        raise ValueError("must be a map of PostgreSQL's settings, such as {work_mem: 16MB}")
    mistakes: list[tuple[Path, str]] = []
    for at, (name, value) in enumerate(settings.items()):
        twice = str(name).lower() in (str(other).lower() for other in list(settings)[:at])
        what = "is there twice, in other letters: keep one" if twice else _mistake(str(name), value)
        mistakes += [((name,), what)] if what else []
    refuse(mistakes)
    return {_spelling(str(name)): str(value) for name, value in settings.items()}


Parameters = Annotated[dict[str, str], BeforeValidator(parse)]


def _spelling(name: str) -> str:
    return settings_by_name()[name.lower()][0].name if name.lower() in settings_by_name() else name.lower()


def _mistake(name: str, value: object) -> str:
    """The mistake in a setting; "" without one."""
    if reason := next((why for own, why in OWN.items() if name.lower().startswith(own)), ""):
        return f"is Homeport's own: {reason}"
    settings = settings_by_name().get(name.lower())
    if settings is None:
        return _unknown_name(name) or _text_mistake(value)
    if settings[0].kind == "internal":
        return "cannot be set: it is decided when PostgreSQL is built or its cluster is made"
    mistake = _text_mistake(value) or next(filter(None, (_value_mistake(each, str(value)) for each in settings)), "")
    return mistake + got((), value) if mistake else ""


def _unknown_name(name: str) -> str:
    """The mistake in an unknown name; "" for a name with a dot of a module that the distribution does not ship."""
    module = name.lower().partition(".")[0]
    if _OF_A_MODULE.fullmatch(name) and not any(each.startswith(f"{module}.") for each in settings_by_name()):
        return ""
    close = get_close_matches(name.lower().replace("-", "_")[:60], settings_by_name(), 1, 0.6)
    hint = f'; did you mean "{settings_by_name()[close[0]][0].name}"?' if close else ""
    return f"is no setting of PostgreSQL {' or '.join(VERSIONS)}{hint}"


def _text_mistake(value: object) -> str:
    if not isinstance(value, str | int | float):
        return 'must be a value: write "" for an empty one'
    text = str(value)
    if any(character < " " or character == "\x7f" for character in text):
        return "holds a control character, which no setting may"
    return "" if len(text) <= LONGEST_TEXT else f"has more than {LONGEST_TEXT} characters"


def _value_mistake(setting: Setting, text: str) -> str:
    """Why the server would refuse the text; "" if it would not."""
    if setting.kind == "string":
        return ""
    if setting.kind == "bool":
        return "" if _is_bool(text) else "must be on or off"
    if setting.kind == "enum":
        # an enum with on and off also accepts the other words of a boolean
        words = (*setting.words, *(BOOLEANS if "on" in setting.words else ()))
        return "" if text.lower() in words else f"must be {_joined(setting.words)}"
    number = _number(setting, text)
    return "" if number is not None and setting.least <= number <= setting.most else _expectation(setting)


def _is_bool(text: str) -> bool:
    """Whether parse_bool of PostgreSQL accepts the text: one of the words, or an unambiguous beginning of one."""
    beginning = text.lower()
    return beginning not in ("", "o") and any(word.startswith(beginning) for word in BOOLEANS)


def _joined(words: Collection[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def number(name: str, text: str) -> float | None:
    """The value of a numeric setting in its own unit; None if the text is not a number."""
    numbers = (_number(setting, text) for setting in settings_by_name()[name.lower()])
    return next((number for number in numbers if number is not None), None)


def _number(setting: Setting, text: str) -> float | None:
    """The value in the setting's own unit, rounded as the server rounds; None if the server would refuse it."""
    match = _NUMBER.fullmatch(text)
    if match is None or not _allows_unit(setting, match[2]):
        return None
    plain = match[1].lower()
    number = float(int(plain, 16)) if "0x" in plain else float(plain)
    if match[2]:
        units = _units(setting.unit)
        number = number * units[match[2]] / _unit_size(setting.unit)
    return float(round(number)) if setting.kind == "integer" and math.isfinite(number) else number


def _allows_unit(setting: Setting, unit: str) -> bool:
    return not unit or unit in _units(setting.unit)


def _units(unit: str) -> Mapping[str, int]:
    """The units in which the setting may be written; empty for a plain number."""
    return next((units for units in _UNITS if unit.lstrip("0123456789") in units), {})


def _unit_size(unit: str) -> int:
    """The size of a setting's unit, such as 8kB or ms, in bytes or in microseconds."""
    name = unit.lstrip("0123456789")
    return int(unit.removesuffix(name) or 1) * _units(unit)[name]


def _expectation(setting: Setting) -> str:
    units = _units(setting.unit)
    kind = "a whole number" if setting.kind == "integer" else "a number"
    least, most = (_bound_text(setting, each) for each in (setting.least, setting.most))
    bounds = f"from {least} on" if setting.most > LARGEST else f"from {least} to {most}"
    return f"must be {kind}{f' of {_joined(units)}' if units else ''}, {bounds}"


def _bound_text(setting: Setting, number: float) -> str:
    """A bound as text, in the largest unit in which it is a whole number."""
    units = _units(setting.unit)
    if not units or number <= 0:
        return f"{number:.10g}"
    whole = number * _unit_size(setting.unit)
    name = [name for name, size in units.items() if whole % size == 0][-1] if whole.is_integer() else setting.unit
    return f"{whole / units[name]:.15g}{name}"


def single_version(parameters: Mapping[str, str]) -> dict[str, str]:
    """The settings that only one version has, each with that version: a server of the other would not start."""
    rows = {name: settings_by_name().get(name.lower(), ()) for name in parameters}
    versions = {name: {version for row in found for version in row.versions} for name, found in rows.items()}
    return {name: each.pop() for name, each in versions.items() if len(each) == 1}
