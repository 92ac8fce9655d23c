"""Times in documents and arguments: hostctl has seconds since the epoch, output has UTC in ISO 8601."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hostctl.common.timestamps import iso

TIMES = (
    *("archived_at", "at", "begun", "created", "ended", "from", "good", "newest", "next_drill", "next_renewal"),
    *("next_run", "not_after", "not_before", "opened", "renewed", "since", "started", "to", "until", "up_to"),
    "next_try",
)


def with_iso_times(value: Any) -> Any:
    """A document of hostctl with every time converted to UTC in ISO 8601."""
    if isinstance(value, dict):
        return {
            key: iso(item) if key in TIMES and _is_number(item) else with_iso_times(item) for key, item in value.items()
        }
    return [with_iso_times(item) for item in value] if isinstance(value, list) else value


def parse_time(text: str) -> float:
    """Seconds since the epoch, of a time in ISO 8601; one without a zone is this machine's. Raises ValueError."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (OverflowError, OSError) as error:
        raise ValueError(str(error)) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
