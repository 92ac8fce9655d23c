"""Times as people and scripts read them: hostctl counts seconds, everything that is printed is UTC in ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

TIMES = (
    *("archived_at", "at", "begun", "created", "ended", "from", "good", "newest", "next_drill", "next_renewal"),
    *("next_run", "not_after", "not_before", "opened", "renewed", "since", "started", "to", "until", "up_to"),
    "next_try",
)


def iso(seconds: float) -> str:
    """`2026-11-21T07:13:23Z` for seconds since the epoch."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def dated(value: Any) -> Any:
    """A document of hostctl's with every time in it made readable."""
    if isinstance(value, dict):
        return {key: iso(item) if key in TIMES and _seconds(item) else dated(item) for key, item in value.items()}
    return [dated(item) for item in value] if isinstance(value, list) else value


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
