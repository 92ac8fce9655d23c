"""The jobs of deploy.yml on a real host: they follow what is live, never run twice at once, and are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport.sandbox import Sandbox, reboot
from tests.host.support import Json, Project, another, new_project, on_host, settled, until

Push = Callable[..., Json]

YEARLY = "@yearly"
BEAT = {"name": "beat", "schedule": "*:*:0/5", "eval": 'IO.puts("beat of " <> System.get_env("HOMEPORT_RELEASE"))'}
SLOW = {"name": "slow", "schedule": YEARLY, "command": 'bin/hello eval "Process.sleep(600_000)"'}
BROKEN = {"name": "broken", "schedule": YEARLY, "eval": 'raise "not today"'}
STUCK = {"name": "stuck", "schedule": YEARLY, "eval": "Process.sleep(:infinity)", "timeout": "2s"}
WORDS = {"name": "words", "schedule": "0 3 * * 1-5", "command": """bin/hello eval 'IO.puts("$HOME|a  b|" <> "%i")'"""}
RESTS = {"name": "rests", "schedule": "*:*:0/5", "eval": "1"}


@pytest.fixture(scope="module")
def project(live: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app's deploy.yml, the same for all of these tests."""
    return new_project(tmp_path_factory.mktemp("cron") / "project", live)


@pytest.fixture(scope="module")
def push(live: Sandbox, project: Project, artifacts: dict[int, Path]) -> Iterator[Push]:
    """Pushes a release with these jobs; at the end one without any, and nothing of theirs is left."""

    def with_jobs(*wanted: Json) -> Json:
        settled(project)
        project.configure(cron=list(wanted))
        return project.push(another(project, artifacts))

    yield with_jobs
    project.deploy("cron", "resume", RESTS["name"], check=False)
    with_jobs()
    assert units(live) == ""


def units(box: Sandbox) -> str:
    """Every unit and unit file of the app's jobs."""
    listed = (
        "systemctl list-units --all --plain --no-legend 'homeport-hello-cron@*' 'homeport-hello-job@*' | cut -d' ' -f1"
    )
    return on_host(
        box, f"{listed}; cd /etc/systemd/system; ls -d *hello-cron@* timers.target.wants/*hello-cron@* || true"
    )


def timers(box: Sandbox) -> list[str]:
    """The jobs that have a timer at work."""
    listed = "systemctl list-units --plain --no-legend 'homeport-hello-cron@*.timer' | cut -d' ' -f1"
    return [line.partition("@")[2].removesuffix(".timer") for line in on_host(box, listed).splitlines()]


def job(project: Project, name: str) -> Json:
    return next(one for one in json.loads(project.deploy("cron", "--json").out) if one["name"] == name)


def test_jobs_run_at_their_times_and_by_hand_beside_what_is_live_and_are_told(
    live: Sandbox, project: Project, push: Push
) -> None:
    release = push(BEAT, SLOW, BROKEN, STUCK, WORDS)["release"]
    until(lambda: f"beat of {release}" in project.deploy("cron", "logs", "beat").out, "its words are in the log")
    assert f"job@beat beat of {release}" in project.deploy("logs", "cron").out

    done = project.deploy("cron", "run", "words")
    assert "$HOME|a  b|%i" in done.out
    failed = project.deploy("cron", "run", "broken", check=False)
    assert failed.code == 1
    assert "(RuntimeError) not today" in failed.out
    assert "failed with 1 in" in failed.out
    assert project.deploy("status", "--check", check=False).code == 0
    assert project.deploy("cron", "run", "broken", "--json", check=False).json["result"] == "failed"

    checked = project.deploy("status", "--check", check=False)
    assert (checked.code, checked.err) == (
        1,
        "error: the job broken failed 2 times in a row: deploy cron logs broken\n",
    )
    assert "broken FAILED" in checked.out
    assert project.deploy("cron", "run", "stuck", "--json", check=False).json["result"] == "timeout"
    told = job(project, "words")
    assert (told["last"]["result"], told["last"]["release"], told["failures"]) == ("ok", release, 0)
    assert told["next_run"].endswith("T03:00:00Z")


def test_a_job_that_runs_is_not_begun_again_and_ends_with_its_service(
    live: Sandbox, project: Project, push: Push
) -> None:
    push(SLOW)
    project.deploy("cron", "run", "slow", "--detach")
    until(lambda: on_host(live, "systemctl is-active homeport-hello-job@slow || true") == "active", "it runs")
    pid = on_host(live, "systemctl show -p MainPID --value homeport-hello-job@slow")

    second = project.deploy("cron", "run", "slow", "--json", check=False)
    assert (second.code, second.json["error"]["what"]) == (4, "the job slow runs already")
    on_host(live, "systemctl start homeport-hello-cron@slow")  # as its timer would
    assert on_host(live, "systemctl show -p MainPID --value homeport-hello-job@slow") == pid
    assert job(project, "slow")["running"]

    on_host(live, "systemctl kill -s KILL homeport-hello-cron@slow")
    until(lambda: on_host(live, "systemctl is-active homeport-hello-job@slow || true") != "active", "it has ended")
    assert job(project, "slow")["last"]["result"] == "interrupted"
    on_host(live, "systemctl reset-failed 'homeport-hello-cron@*'")


def test_timers_follow_what_is_live_and_a_push_that_fails_changes_none(
    live: Sandbox, project: Project, push: Push, artifacts: dict[int, Path]
) -> None:
    first = push(SLOW, WORDS)["release"]
    assert timers(live) == ["slow", "words"]

    project.configure(env={"clear": {"HELLO_CRASH_AT_BOOT": "1"}})
    project.configure(cron=[BROKEN])
    assert project.deploy("push", "--artifact", another(project, artifacts), check=False).code == 3
    assert timers(live) == ["slow", "words"]
    project.configure(env={})

    missing = {"name": "missing", "schedule": YEARLY, "command": "bin/nope"}
    project.configure(cron=[missing])
    refused = project.deploy("push", "--artifact", another(project, artifacts), "--json", check=False)
    assert "the job missing: there is no program 'bin/nope'" in refused.json["error"]["what"]
    assert (project.live(), timers(live)) == (first, ["slow", "words"])

    push(WORDS)
    assert timers(live) == ["words"]
    settled(project)
    project.deploy("rollback")
    assert (project.live(), timers(live)) == (first, ["slow", "words"])


@pytest.mark.full
def test_a_suspended_job_rests_over_a_push_and_a_reboot_and_a_missed_time_is_made_up_for(
    live: Sandbox, project: Project, push: Push
) -> None:
    push(RESTS, WORDS)
    assert "SUSPENDED" in project.deploy("cron", "suspend", "rests").out
    push(RESTS, WORDS)
    assert timers(live) == ["words"]

    settled(project)
    on_host(live, "touch -d '40 days ago' /var/lib/systemd/timers/stamp-homeport-hello-cron@words.timer")
    reboot(live.name)
    until(lambda: project.status()["health"]["ok"], "it serves again")
    until(
        lambda: (job(project, "words")["last"] or {}).get("result") == "ok",
        "what the host slept through is made up for",
    )
    assert timers(live) == ["words"]
    assert job(project, "rests")["suspended"]

    project.deploy("cron", "resume", "rests")
    assert timers(live) == ["rests", "words"]
    assert project.deploy("cron", "suspend", "none", check=False).code == 2
