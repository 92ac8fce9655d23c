"""Converts a crontab to the calendar events of systemd, for OnCalendar of a timer.

The rules are those of crontab(5) of Debian's cron, and of systemd.time(7) for the calendar events.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days, of a leap year
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_RANGE = re.compile(r"(?:\*|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?")


class _Field(NamedTuple):
    """One of the five fields of a crontab: its name, its bounds, and words for its values from the lowest on."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, MONTHS),
    _Field("day of the week", 0, 7, WEEKDAYS),
)


def calendar_events(schedule: str) -> list[str]:
    """The calendar events of systemd for a schedule: one; two for a crontab with days of the month and of the week.

    Raises ValueError for an invalid crontab, and for one that never occurs.
    """
    if schedule.startswith("@"):
        return calendar_events(_macro(schedule))
    return _events(schedule.split()) if is_crontab(schedule) else [schedule]


def is_crontab(schedule: str) -> bool:
    """Whether the schedule has the five fields of a crontab; a calendar event of systemd has at most four."""
    return len(schedule.split()) == len(_FIELDS)


def _macro(word: str) -> str:
    """The crontab that a word such as @daily stands for. Raises ValueError."""
    if word == "@reboot":
        raise ValueError("is not a schedule: start such work in the app itself")
    if word not in MACROS:
        raise ValueError(f"must be one of {', '.join(MACROS)}")
    return MACROS[word]


def _events(fields: list[str]) -> list[str]:
    """The calendar events for the five fields of a crontab. Raises ValueError."""
    minute, hour, day, month, weekday = (_values(text, field) for text, field in zip(fields, _FIELDS, strict=True))
    weekdays = {number % 7 for number in weekday}
    every_day, every_weekday = set(range(1, 32)), set(range(7))
    # if both fields restrict the days, either is enough; a field that begins with * does not restrict them
    both = not fields[2].startswith("*") and not fields[4].startswith("*")
    alternatives = [(day, every_weekday), (every_day, weekdays)] if both else [(day, weekdays)]
    events = [_event(minute, hour, days, month, on) for days, on in alternatives if _exists(days, month)]
    if not events:
        raise ValueError("never occurs: no such month has such a day")
    return list(dict.fromkeys(events))


def _exists(days: set[int], months: set[int]) -> bool:
    """Whether one of the months has one of the days: February has no 30."""
    return any(min(days) <= LONGEST_MONTHS[month - 1] for month in months)


def _event(minutes: set[int], hours: set[int], days: set[int], months: set[int], weekdays: set[int]) -> str:
    """The calendar event in the syntax of systemd.time(7); * for a field with all values."""
    on = "" if len(weekdays) == 7 else ",".join(WEEKDAYS[number].title() for number in sorted(weekdays)) + " "
    return f"{on}*-{_list(months, 12)}-{_list(days, 31)} {_list(hours, 24)}:{_list(minutes, 60)}:00"


def _list(numbers: set[int], total: int) -> str:
    return "*" if len(numbers) == total else ",".join(f"{number:02d}" for number in sorted(numbers))


def _values(text: str, field: _Field) -> set[int]:
    """The values of a field of a crontab. Raises ValueError."""
    return {number for part in text.lower().split(",") for number in _range(part, field)}


def _range(part: str, field: _Field) -> range:
    """The values of a part such as 1-5/2. Raises ValueError."""
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError(f'has no {field.name} in "{part}": write 5, 1-5, */5 or a list with commas')
    low = field.low if match[1] is None else _number(match[1], field)
    high = _number(match[2], field) if match[2] else low if match[1] else field.high
    step = int(match[3]) if match[3] else 1
    if low > high:
        raise ValueError(f'has a {field.name} that runs backwards, "{part}": write it as two, with a comma')
    if step == 0 or (match[3] and match[1] and not match[2]):
        raise ValueError(f'has a step for the {field.name} that cannot be, "{part}": write */5 or 10-59/5')
    return range(low, high + 1, step)


def _number(text: str, field: _Field) -> int:
    """The value of a number, or of a word such as "jan". Raises ValueError."""
    if text in field.words:
        return field.words.index(text) + field.low
    if not text.isdigit() or not field.low <= int(text) <= field.high:
        raise ValueError(f'has "{text}" for the {field.name}, which goes from {field.low} to {field.high}')
    return int(text)
