"""The host's redactor: puts a mark in the place of a release's secrets, because apps print their environment."""

from __future__ import annotations

import re

from hostctl.common import redact as common
from hostctl.common.documents import Record
from hostctl.common.errors import HostError
from hostctl.core.paths import App
from hostctl.release import records

SHORTEST = common.LEAST_CHARACTERS
MARK = "[redacted]"


def redact(text: str, app: App, release: str) -> str:
    """The text without the values of the release's secrets."""
    return replace(text, secrets(app, records.load(app, release)))


def secrets(app: App, record: Record) -> list[str]:
    """The values of a release's secrets that are long enough to hide; none when they cannot be decrypted."""
    try:
        values = records.environment(app, record["release"])
    except HostError:
        return []
    names = [*record.get("secrets", []), "RELEASE_COOKIE"]
    return [values[name] for name in names if len(values.get(name, "")) >= SHORTEST]


def replace(text: str, secrets: list[str]) -> str:
    """The text with each secret, and each line of a secret, replaced by MARK."""
    found = pattern(secrets)
    return found.sub(MARK, text) if found else text


def pattern(secrets: list[str]) -> re.Pattern[str] | None:
    """What matches any of the secrets, and any line of one with newlines; None for none."""
    return common.pattern({text for secret in secrets for text in common.with_lines(secret, SHORTEST) if _long(text)})


def _long(text: str) -> bool:
    return len(text) >= SHORTEST
