"""The app's scheduled jobs: schedules in the syntax of crontab or systemd, and the commands.

The rules are those of crontab(5) of Debian's cron, and of systemd.time(7) for the calendar events.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, model_validator

from homeport.config import values
from homeport.config.fields import Limit, Section
from homeport.config.values import refuse

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
EXPECTED = 'must be a schedule such as "15 3 * * *", "@daily" or "Mon..Fri 07:00", in quotes'
_RANGE = re.compile(r"(?:\*|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?")
_EVENT = re.compile(r"[A-Za-z0-9*:.,/~_+ -]{1,200}")
_ANALYZE_SECONDS = 5.0


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


# ---------------------------------------------------------------------------------------------- schedules


def calendar(schedule: str) -> list[str]:
    """The calendar events of systemd for a schedule: one; two for a crontab with days of the month and of the week.

    Raises ValueError for an invalid crontab, and for one whose time never comes.
    """
    if schedule.startswith("@"):
        return calendar(_macro(schedule))
    return _crontab(schedule.split()) if is_crontab(schedule) else [schedule]


def is_crontab(schedule: str) -> bool:
    """Whether the schedule has the five fields of a crontab; a calendar event of systemd has at most four."""
    return len(schedule.split()) == len(_FIELDS)


def _macro(word: str) -> str:
    if word == "@reboot":
        raise ValueError("is no time: what an app does once at its start belongs into the app")
    if word not in MACROS:
        raise ValueError(f"must be one of {', '.join(MACROS)}")
    return MACROS[word]


def _crontab(texts: list[str]) -> list[str]:
    minute, hour, day, month, weekday = (_values(text, field) for text, field in zip(texts, _FIELDS, strict=True))
    weekdays = {number % 7 for number in weekday}
    every_day, every_weekday = set(range(1, 32)), set(range(7))
    # if both fields restrict the days, either is enough; a field that begins with * does not restrict them
    both = not texts[2].startswith("*") and not texts[4].startswith("*")
    wanted = [(day, every_weekday), (every_day, weekdays)] if both else [(day, weekdays)]
    found = [_event(minute, hour, days, month, on) for days, on in wanted if _comes(days, month)]
    if not found:
        raise ValueError("never comes: no such month has such a day")
    return list(dict.fromkeys(found))


def _comes(days: set[int], months: set[int]) -> bool:
    return any(min(days) <= LONGEST_MONTHS[month - 1] for month in months)


def _event(minutes: set[int], hours: set[int], days: set[int], months: set[int], weekdays: set[int]) -> str:
    """The calendar event in the syntax of systemd.time(7); * for a field with all values."""
    on = "" if len(weekdays) == 7 else ",".join(WEEKDAYS[number].title() for number in sorted(weekdays)) + " "
    return f"{on}*-{_list(months, 12)}-{_list(days, 31)} {_list(hours, 24)}:{_list(minutes, 60)}:00"


def _list(numbers: set[int], all_of_them: int) -> str:
    return "*" if len(numbers) == all_of_them else ",".join(f"{number:02d}" for number in sorted(numbers))


def _values(text: str, field: _Field) -> set[int]:
    """The values of a field of a crontab. Raises ValueError."""
    return {number for part in text.lower().split(",") for number in _range(part, field)}


def _range(part: str, field: _Field) -> range:
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
    if text in field.words:
        return field.words.index(text) + field.low
    if not text.isdigit() or not field.low <= int(text) <= field.high:
        raise ValueError(f'has "{text}" for the {field.name}, which goes from {field.low} to {field.high}')
    return int(text)


def schedule(value: object) -> str:
    """The schedule as it was written, checked as far as this machine can; the host's systemd checks it again."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(EXPECTED)
    events = calendar(value)
    if not all(_EVENT.fullmatch(event) for event in events) and not (value.startswith("@") or is_crontab(value)):
        raise ValueError(EXPECTED)
    if events == [value] and (reason := _refused(value)):
        raise ValueError(f"is no schedule: {reason}")
    return value


def _refused(event: str) -> str:
    """The error of this machine's systemd for a calendar event; "" if there is none, or no systemd."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return ""
    command = [program, "calendar", "--", event]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANALYZE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode == 0:
        return "its time never comes" if re.search(r"Next elapse: never", done.stdout) else ""
    return "systemd-analyze calendar says " + " ".join(done.stderr.split())[:200]


# ---------------------------------------------------------------------------------------------- what runs


_line = values.matching(r"[^\x00-\x1f\x7f]{1,4096}", "one line such as bin/report --daily")
_PROGRAM = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)+")


def command(value: object) -> str:
    """A program of the release, with arguments split as by a shell; it runs without a shell."""
    text = _line(value)
    try:
        words = shlex.split(text)
    except ValueError:
        raise ValueError("has a quotation that does not end") from None
    if not words or not _PROGRAM.fullmatch(words[0]):
        raise ValueError("must begin with a program of the release, such as bin/report --daily")
    return text


def expression(value: object) -> str:
    """An Elixir expression, which is not evaluated here."""
    if not isinstance(value, str) or not value.strip() or "\0" in value or len(value) > 10_000:
        raise ValueError("must be an expression of Elixir's, such as Shop.Report.send()")
    return value


_name = values.matching(r"[a-z][a-z0-9-]{0,39}", "lower-case letters, digits and -, a letter first, at most 40")
Name = Annotated[str, BeforeValidator(_name)]
Schedule = Annotated[str, BeforeValidator(schedule)]
Program = Annotated[str, BeforeValidator(command)]
Expression = Annotated[str, BeforeValidator(expression)]


class Job(Section):
    """One entry of `cron`: a program or expression that runs beside the live release, and its schedule."""

    name: Name
    """The job's name."""

    schedule: Schedule
    """When it runs, in the host's time zone: as in a crontab ("*/5 * * * *", "@daily") or as in systemd ("Mon..Fri
    07:00", "*-*-01 04:00 Europe/Berlin"). Runs that were missed while the host was down are made up for once.
    """

    command: Program | None = None
    """A program of the release, with its arguments. A job has either `command` or `eval`."""

    eval: Expression | None = None
    """An Elixir expression to evaluate."""

    timeout: Limit = 3600.0
    """The time limit of one run."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Job:
        if (self.command is None) == (self.eval is None):
            raise ValueError("must have one of command and eval")
        return self


def _each_once(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    names = [job.name for job in jobs]
    refuse([((at, "name"), f"{name} is there twice: keep one") for at, name in enumerate(names) if name in names[:at]])
    return jobs


Jobs = Annotated[
    tuple[Job, ...],
    BeforeValidator(lambda data: () if data is None else data),
    AfterValidator(_each_once),
]


def told(jobs: tuple[Job, ...]) -> list[dict[str, object]] | None:
    """The jobs in the spec of a push, durations in seconds; None without jobs."""
    return [_told(job) for job in jobs] or None


def _told(job: Job) -> dict[str, object]:
    when = {"schedule": " ".join(job.schedule.split()), "calendar": calendar(job.schedule)}
    what = {"words": shlex.split(job.command or ""), "expression": job.eval or ""}
    return {"name": job.name, **when, **what, "timeout": job.timeout}
