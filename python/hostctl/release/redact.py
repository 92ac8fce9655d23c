"""Secrets out of what is shown and kept: an app that prints its environment at boot must not fill logs with
it.
"""

from __future__ import annotations

import re

from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.release import records

SHORTEST = 4  # a shorter value would take ordinary words out of every line
MARK = "[redacted]"


def redact(text: str, app: App, release: str) -> str:
    """The text without the values of the release's secrets."""
    return replace(text, secrets(app, records.load(app, release)))


def secrets(app: App, record: Json) -> list[str]:
    """The values of a release's secrets; none of one whose values nobody can decrypt any more."""
    try:
        values = records.environment(app, record["release"])
    except HostError:
        return []
    names = [*record.get("secrets", []), "RELEASE_COOKIE"]
    return [values[name] for name in names if len(values.get(name, "")) >= SHORTEST]


def replace(text: str, secrets: list[str]) -> str:
    """The text with each secret replaced, the longest first; each line of one with newlines counts by itself
    too.
    """
    found = pattern(secrets)
    return found.sub(MARK, text) if found else text


def pattern(secrets: list[str]) -> re.Pattern[str] | None:
    """What matches any of the secrets, and any line of one with newlines, the longest first; None for none."""
    lines = {line for secret in secrets for line in (secret, *secret.splitlines()) if len(line) >= SHORTEST}
    longest_first = sorted(lines, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if lines else None
