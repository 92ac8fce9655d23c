"""Secrets out of what is shown and kept: an app that prints its environment at boot must not fill logs with
it.
"""

from __future__ import annotations

from hostctl import records
from hostctl.layout import App

SHORTEST = 4  # a shorter value would take ordinary words out of every line
MARK = "[redacted]"


def redact(text: str, app: App, release: str) -> str:
    """The text without the values of the release's secrets."""
    names = records.load(app, release).get("secrets", [])
    values = records.environment(app, release)
    secrets = [values[name] for name in names if len(values.get(name, "")) >= SHORTEST]
    return replace(text, [*secrets, values.get("RELEASE_COOKIE", "")])


def replace(text: str, secrets: list[str]) -> str:
    """The text with each secret replaced, the longest first; each line of one with newlines counts by itself
    too.
    """
    lines = {line for secret in secrets for line in (secret, *secret.splitlines()) if len(line) >= SHORTEST}
    for line in sorted(lines, key=len, reverse=True):
        text = text.replace(line, MARK)
    return text
