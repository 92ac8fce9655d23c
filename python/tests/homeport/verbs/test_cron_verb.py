"""What `deploy cron` and `deploy status` say of jobs."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from homeport.cli import deploy
from homeport.verbs import cron

LAST = {"begun": "2026-11-21T03:15:00Z", "ended": "2026-11-21T03:15:02Z", "release": "R", "status": 0, "seconds": 2.04}


def job(**more: Any) -> dict[str, Any]:
    told = {"name": "report", "schedule": "15 3 * * *", "suspended": False, "running": False, "failures": 0}
    return {**told, "next_run": "2026-11-22T03:15:00Z", "last": {**LAST, "result": "ok", "error": None}, **more}


def test_a_job_is_a_line_with_its_last_run_and_its_next() -> None:
    assert cron.table([job()]) == [
        "NAME    SCHEDULE    LAST                  RESULT       NEXT",
        "report  15 3 * * *  2026-11-21T03:15:00Z  ok in 2.0 s  2026-11-22T03:15:00Z",
    ]


@pytest.mark.parametrize(
    ("more", "result", "coming"),
    [
        ({"last": None}, "-", "2026-11-22T03:15:00Z"),
        ({"running": True, "next_run": None}, "runs", "when it has ended"),
        ({"suspended": True, "next_run": None}, "ok in 2.0 s", "SUSPENDED"),
        ({"next_run": None}, "ok in 2.0 s", "NO TIMER"),
        (
            {"last": {**LAST, "status": 3, "result": "failed"}, "failures": 2},
            "failed with 3 in 2.0 s, 2 in a row",
            "2026-11-22T03:15:00Z",
        ),
        ({"last": {**LAST, "seconds": None, "result": "interrupted"}}, "interrupted", "2026-11-22T03:15:00Z"),
    ],
)
def test_how_it_ended_and_when_it_runs_next(more: dict[str, Any], result: str, coming: str) -> None:
    row = cron._row(job(**more))
    assert (row[3], row[4]) == (result, coming)


def test_the_status_says_on_one_line_what_comes_next_what_rests_and_what_failed() -> None:
    jobs = [job(), job(name="b", suspended=True, next_run=None), job(name="c", failures=1, next_run=None)]

    assert cron.line(jobs) == "3 jobs; next report at 2026-11-22T03:15:00Z; b suspended; c FAILED"
    assert cron.line([job()]) == "1 job; next report at 2026-11-22T03:15:00Z"


def test_without_jobs_it_says_how_to_have_some() -> None:
    assert cron.table([]) == ["the live release has no jobs; add them to cron in deploy.yml, then run deploy push"]


@pytest.mark.parametrize(
    "args",
    [
        ["run"],
        ["run", "A b"],
        ["run", "a", "b"],
        ["suspend"],
        ["resume", "-x"],
        ["suspend", "a", "../b"],
        ["logs"],
        ["logs", "a", "-n", "0"],
        ["logs", "a", "--grep", "("],
        ["nonsense"],
    ],
)
def test_what_is_not_right_is_refused_before_the_host_is_asked(args: list[str]) -> None:
    assert CliRunner().invoke(deploy, ["cron", *args]).exit_code == 2
