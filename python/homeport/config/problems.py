"""Mistakes in the configuration, each with its file and line; all are reported together."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from homeport.core.errors import ExitCode, HomeportError

Path = tuple[str | int, ...]

# values below these keys are not repeated in messages, because they may be secrets
PRIVATE: tuple[Path, ...] = (
    ("env",),
    ("release", "env"),
    ("secrets",),
    ("backup", "access_key_id"),
    ("backup", "secret_access_key"),
    ("backup", "encryption_key"),
    ("database", "url"),
    ("notify",),
)
SHOWN_CHARACTERS = 60
FIX = "correct it, then run: deploy config"


@dataclass(frozen=True)
class Origin:
    """Where a value was set: `layer` is "default", "sandbox" or a file; only files have a line, from 1."""

    layer: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else self.layer


@dataclass(frozen=True)
class Problem:
    """One mistake: its place, its key, and what is wrong or expected."""

    origin: Origin
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.origin} {self.text}"

    @property
    def text(self) -> str:
        """The key and the mistake, without the place."""
        return f"{self.key}: {self.what}" if self.key else self.what


class ConfigError(HomeportError):
    """The configuration cannot be used; `problems` holds every mistake in the order of the files."""

    def __init__(self, problems: list[Problem], fix: str = FIX) -> None:
        self.problems = problems
        super().__init__(_summary(problems), str(problems[0].origin), fix, ExitCode.USAGE)


def _summary(problems: list[Problem]) -> str:
    if len(problems) == 1:
        return problems[0].text
    lines = [f"{len(problems)} mistakes in the configuration", *(f"  {problem}" for problem in problems)]
    return "\n".join(lines)


def file_error(where: str, what: str, fix: str = FIX, line: int = 0) -> ConfigError:
    """The error for a file, or a part of it, that cannot be used as configuration."""
    origin = Origin(where, where, line) if line else Origin(where)
    return ConfigError([Problem(origin, "", what)], fix)


def key_text(path: Path) -> str:
    """A path as a person writes it: `release.commands.migrate`, `domains[1].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}"
    return text.removeprefix(".")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]{1,60}", name) else json.dumps(name[:SHOWN_CHARACTERS])


def got(path: Path, value: object) -> str:
    """` (got …)` for a message; "" if the value may be a secret or is not a scalar."""
    if any(path[: len(private)] == private for private in PRIVATE) or isinstance(value, dict | list | tuple):
        return ""
    if value is None:
        return " (got nothing)"
    return f" (got {json.dumps(value if not isinstance(value, str) else value[:SHOWN_CHARACTERS])})"
