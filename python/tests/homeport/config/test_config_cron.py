"""The jobs of deploy.yml: crontabs mean to systemd what they mean to cron, and every mistake is told."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.config import cron, crontab
from homeport.config.hostvars import settings
from hostctl.core import schema

FIELDS = ((0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, crontab.MONTHS), (0, 7, crontab.WEEKDAYS))


# ---------------------------------------------------------------------------------------------- what cron means


def field(low: int, high: int, words: tuple[str, ...]) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """A field's text, and the numbers that crontab(5) says it stands for."""

    def named(value: int, how: int) -> str:
        known = words[value - low] if value - low < len(words) else str(value)
        return [str(value), f"{value:02d}", known, known.upper()][how]

    def part(ends: tuple[int, int], how: int, step: int) -> tuple[str, frozenset[int]]:
        first, last = sorted(ends)
        texts = [named(first, how), f"{named(first, how)}-{named(last, how)}"]
        texts.append(f"{texts[1]}/{step}")
        values = [{first}, set(range(first, last + 1)), set(range(first, last + 1, step))]
        return texts[step % 3], frozenset(values[step % 3])

    number, step = st.integers(low, high), st.integers(1, 20)
    parts = st.lists(st.builds(part, st.tuples(number, number), st.integers(0, 3), step), min_size=1, max_size=3)
    listed = parts.map(lambda all_: (",".join(one for one, _ in all_), frozenset().union(*(one for _, one in all_))))
    stars = step.map(lambda by: ("*" if by == 1 else f"*/{by}", frozenset(range(low, high + 1, by))))
    return stars | listed


def cron_fires(texts: list[str], sets: list[frozenset[int]], at: datetime) -> bool:
    """As Debian's cron decides: where neither day field begins with *, one of the two is enough."""
    minute, hour, day, month, weekday = sets
    on_day, on_weekday = at.day in day, at.isoweekday() in weekday or (at.isoweekday() == 7 and 0 in weekday)
    starred = texts[2].startswith("*") or texts[4].startswith("*")
    days = (on_day and on_weekday) if starred else (on_day or on_weekday)
    return at.minute in minute and at.hour in hour and at.month in month and days


EVENT = re.compile(r"(?:([A-Za-z,]+) )?\*-(\*|[\d,]+)-(\*|[\d,]+) (\*|[\d,]+):(\*|[\d,]+):00")


def systemd_fires(event: str, at: datetime) -> bool:
    """As systemd.time(7) says of the events that are made here."""
    match = EVENT.fullmatch(event)
    assert match, event
    days = match[1].split(",") if match[1] else [at.strftime("%a")]
    parts = zip(match.groups()[1:], (at.month, at.day, at.hour, at.minute), strict=True)
    return at.strftime("%a") in days and all(text == "*" or value in map(int, text.split(",")) for text, value in parts)


def events_of(text: str) -> list[str]:
    """Those of a schedule; none for one that is refused, in words."""
    try:
        return crontab.calendar_events(text)
    except ValueError as error:
        return [] if str(error) else ["refused without a word"]


crontabs = st.tuples(*(field(*each) for each in FIELDS))
minutes = st.datetimes(datetime(2024, 1, 1), datetime(2029, 1, 1)).map(lambda at: at.replace(second=0, microsecond=0))


@given(crontabs, minutes)
def test_a_crontab_fires_under_systemd_exactly_when_cron_would(parts: Any, at: datetime) -> None:
    texts, sets = [text for text, _ in parts], [values for _, values in parts]
    events = events_of(" ".join(texts))

    for each in (at, at.replace(minute=min(sets[0]), hour=max(sets[1]))):
        assert any(systemd_fires(event, each) for event in events) == cron_fires(texts, sets, each)
    assert all(schema.JOB["calendar"]([event]) for event in events)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
@pytest.mark.parametrize(
    "text", ["*/5 * * * *", "15 3 * * *", "0 9-17/2 1,15 jan-mar *", "0 0 13 * fri", "@weekly", "0 0 29 2 *"]
)
def test_systemd_itself_reads_what_a_crontab_becomes_as_meant(text: str) -> None:
    base = datetime(2028, 2, 27, 1, 59, tzinfo=UTC)
    texts = crontab.MACROS.get(text, text).split()
    sets = [frozenset(crontab._values(each, field_)) for each, field_ in zip(texts, crontab._FIELDS, strict=True)]
    for event in crontab.calendar_events(text):
        command = ["systemd-analyze", "calendar", f"--base-time={base:%F %T} UTC", f"{event} UTC"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.search(r"Next elapse: (?:\w+ )?([\d-]+ [\d:]+) UTC", told)
        assert found, told
        elapse = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        at = base
        while not systemd_fires(event, at := at + timedelta(minutes=1)):
            pass
        assert elapse == at
        assert cron_fires(texts, sets, at)


@given(st.text(max_size=40))
def test_any_text_is_a_schedule_or_is_refused_in_words(text: str) -> None:
    assert events_of(text) in ([], [text]) or text.startswith("@") or crontab.is_crontab(text)


# ---------------------------------------------------------------------------------------------- what is refused

REFUSED = [
    ("61 * * * *", 'has "61" for the minute, which goes from 0 to 59'),
    ("* 24 * * *", 'has "24" for the hour, which goes from 0 to 23'),
    ("* * 0 * *", 'has "0" for the day of the month, which goes from 1 to 31'),
    ("* * * foo *", 'has "foo" for the month, which goes from 1 to 12'),
    ("* * * * 8", 'has "8" for the day of the week, which goes from 0 to 7'),
    ("5/15 * * * *", 'has a step for the minute that cannot be, "5/15": write */5 or 10-59/5'),
    ("*/0 * * * *", 'has a step for the minute that cannot be, "*/0": write */5 or 10-59/5'),
    ("* * * * fri-mon", 'has a day of the week that runs backwards, "fri-mon": write it as two, with a comma'),
    ("1,,2 * * * *", 'has no minute in "": write 5, 1-5, */5 or a list with commas'),
    ("0 0 30 2 *", "never occurs: no such month has such a day"),
    ("@reboot", "is not a schedule: start such work in the app itself"),
    ("@often", "must be one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually"),
    ("daily; rm", cron.EXPECTED),
    ("%i", cron.EXPECTED),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_a_schedule_that_is_none_is_refused_with_what_is_wrong(
    project: Any, good: Callable[[str], str], text: str, expected: str
) -> None:
    mistakes = project.mistakes(good(f'cron:\n  - {{name: a, schedule: "{text}", command: bin/a}}\n'))

    assert mistakes == [f'deploy.yml:5 cron[0].schedule: {expected} (got "{text}")']


MISTAKES = [
    ("{name: a, schedule: '@daily'}", ["deploy.yml:5 cron[0]: must have one of command and eval"]),
    (
        "{name: a, schedule: '@daily', command: bin/a, eval: A.b()}",
        ["deploy.yml:5 cron[0]: must have one of command and eval"],
    ),
    (
        "{name: A b, schedule: '@daily', eval: A.b()}",
        ['deploy.yml:5 cron[0].name: must be lower-case letters, digits and -, a letter first, at most 40 (got "A b")'],
    ),
    (
        "{name: a, schedule: '@daily', command: rm -rf /}",
        [
            "deploy.yml:5 cron[0].command: must begin with a program of the release, such as bin/report --daily "
            '(got "rm -rf /")'
        ],
    ),
    (
        "{name: a, schedule: '@daily', command: ../bin/a}",
        [
            "deploy.yml:5 cron[0].command: must begin with a program of the release, such as bin/report --daily "
            '(got "../bin/a")'
        ],
    ),
    (
        "{name: a, schedule: '@daily', command: ''}",
        ['deploy.yml:5 cron[0].command: must be one line such as bin/report --daily (got "")'],
    ),
    (
        """{name: a, schedule: '@daily', command: "bin/a 'b"}""",
        ['deploy.yml:5 cron[0].command: has a quotation that does not end (got "bin/a \'b")'],
    ),
    (
        "{name: a, schedule: '@daily', eval: ' '}",
        ['deploy.yml:5 cron[0].eval: must be an expression of Elixir\'s, such as Shop.Report.send() (got " ")'],
    ),
    (
        "{name: a, schedule: '@daily', eval: A.b(), when: now}",
        ["deploy.yml:5 cron[0].when: unknown key (expected one of: name, schedule, command, eval, timeout)"],
    ),
    ("{schedule: '@daily', eval: A.b()}", ["deploy.yml:5 cron[0].name: is required"]),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_job_that_is_not_right_is_refused_with_its_line(
    project: Any, good: Callable[[str], str], text: str, expected: list[str]
) -> None:
    assert project.mistakes(good(f"cron:\n  - {text}\n")) == expected


def test_a_name_is_there_once(project: Any, good: Callable[[str], str]) -> None:
    one = "{name: a, schedule: '@daily', eval: A.b()}"

    assert project.mistakes(good(f"cron:\n  - {one}\n  - {one}\n")) == [
        "deploy.yml:6 cron[1].name: a is there twice: keep one"
    ]


def test_what_the_host_is_told_of_a_job_is_what_it_takes(project: Any, good: Callable[[str], str]) -> None:
    text = """cron:
  - {name: report, schedule: "0 0 13 * fri", command: "bin/report --to 'a b' $HOME", timeout: 90s}
  - {name: sweep, schedule: Mon..Fri 07:00, eval: Shop.sweep()}
"""
    project.write(good(text))
    told = settings(project.load().config).settings["cron"]

    assert schema.jobs(told)
    assert told[0] == {
        "name": "report",
        "schedule": "0 0 13 * fri",
        "calendar": ["*-*-13 00:00:00", "Fri *-*-* 00:00:00"],
        "words": ["bin/report", "--to", "a b", "$HOME"],
        "expression": "",
        "timeout": 90.0,
    }
    assert (told[1]["calendar"], told[1]["expression"], told[1]["timeout"]) == (
        ["Mon..Fri 07:00"],
        "Shop.sweep()",
        3600.0,
    )
