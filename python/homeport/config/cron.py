"""`cron` in deploy.yml: the app's scheduled jobs, each with a schedule in the syntax of crontab or systemd."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, model_validator

from homeport.config import values
from homeport.config.crontab import calendar_events, is_crontab
from homeport.config.fields import Limit, Section
from homeport.config.values import refuse

EXPECTED = 'must be a schedule such as "15 3 * * *", "@daily" or "Mon..Fri 07:00", in quotes'
_EVENT = re.compile(r"[A-Za-z0-9*:.,/~_+ -]{1,200}")
_ANALYZE_SECONDS = 5.0


def schedule(value: object) -> str:
    """The schedule as it was written, checked as far as this machine can; the host's systemd checks it again."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(EXPECTED)
    events = calendar_events(value)
    if not all(_EVENT.fullmatch(event) for event in events) and not (value.startswith("@") or is_crontab(value)):
        raise ValueError(EXPECTED)
    if events == [value] and (reason := _systemd_error(value)):
        raise ValueError(f"is no schedule: {reason}")
    return value


def _systemd_error(event: str) -> str:
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
        return "it never occurs" if re.search(r"Next elapse: never", done.stdout) else ""
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


def job_settings(jobs: tuple[Job, ...]) -> list[dict[str, object]] | None:
    """The jobs in the spec of a push, durations in seconds; None without jobs."""
    return [_settings(job) for job in jobs] or None


def _settings(job: Job) -> dict[str, object]:
    when = {"schedule": " ".join(job.schedule.split()), "calendar": calendar_events(job.schedule)}
    what = {"words": shlex.split(job.command or ""), "expression": job.eval or ""}
    return {"name": job.name, **when, **what, "timeout": job.timeout}
