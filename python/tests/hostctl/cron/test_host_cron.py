"""Jobs at their times: timers that follow what is live, runs that never overlap, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hostworld import KILLER, FakeSystemd, Killed, World

from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.files import write_json
from hostctl.core import audit, schema
from hostctl.core.actor import Actor
from hostctl.cron import commands, jobs
from hostctl.cron import runs as cron_runs
from hostctl.cron import timers as cron_timers
from hostctl.host.host import Host
from hostctl.host.systemd import Unit
from hostctl.instance import one_off
from hostctl.journal import journal
from hostctl.notify import alerts
from hostctl.transitions.steps import prune

ANN = Actor("ann", "198.51.100.9")


def job(name: str = "report", **more: Any) -> dict[str, Any]:
    told = {"name": name, "schedule": "@daily", "calendar": ["*-*-* 00:00:00"], "words": ["bin/migrate"]}
    return {**told, "expression": "", "timeout": 60, **more}


class Program:
    """A program that has run."""

    def __init__(self, status: int) -> None:
        self.status = status

    def wait(self) -> int:
        return self.status


class Systemd(FakeSystemd):
    """A systemd with timers."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.timers: set[str] = set()
        self.reads = 0
        self.inside = ""
        self.states: dict[str, str] = {}
        self.begun: list[tuple[str, list[str], list[str]]] = []
        self.status = 0

    def show(self, *units: str) -> list[Unit]:
        return [
            Unit({"ActiveState": self.states[unit]}) if unit in self.states else super(Systemd, self).show(unit)[0]
            for unit in units
        ]

    def stop(self, unit: str) -> None:
        super().stop(unit)
        self.timers.discard(unit)
        self.states.pop(unit, None)

    def daemon_reload(self) -> None:
        KILLER.act()
        self.reads += 1

    def restart(self, *units: str) -> None:
        KILLER.act()
        self.timers |= set(units)

    def timer_states(self, *timers: str) -> list[tuple[bool, float | None]]:
        return [(timer in self.timers, 1000.0 if timer in self.timers else None) for timer in timers]

    def calendar_error(self, event: str) -> str:
        return "" if "*" in event else "no such time"

    def running_inside(self, unit: str) -> bool:
        return unit == self.inside

    def spawn(self, unit: str, argv: Sequence[str], properties: Sequence[str]) -> Program:
        self.begun.append((unit, list(argv), list(properties)))
        return Program(self.status)


@pytest.fixture
def world(new_world: Any) -> World:
    made: World = new_world()
    made.systemd = Systemd(made)
    made.release_files = lambda source, _: (source / "bin/migrate").chmod(0o755)  # type: ignore[method-assign]
    return made


def systemd(world: World) -> Systemd:
    assert isinstance(world.systemd, Systemd)
    return world.systemd


def host(world: World) -> Host:
    made: Any = world
    return made  # type: ignore[no-any-return]


def push(world: World, version: str, *jobs: dict[str, Any], how: str | None = None) -> dict[str, Any]:
    """Push a release with these jobs."""
    settings = {**world.spec("settings")["settings"], "cron": list(jobs) or None}
    return world.push(version, how, settings=settings)


def run(world: World, name: str = "report") -> dict[str, Any]:
    """As its timer has it run."""
    systemd(world).inside = jobs.service(world.app, name)
    try:
        return cron_runs.run(world.app, name, ANN, host(world))
    finally:
        systemd(world).inside = ""


def timers(world: World) -> list[str]:
    """The jobs that have a timer at work; on the disk it must be the same."""
    at_work = sorted(systemd(world).timers)
    wants = world.root / cron_timers.WANTS
    assert sorted(path.name for path in wants.glob("*")) == at_work
    assert all((wants / name).read_text() for name in at_work)
    return [name.partition("@")[2].removesuffix(".timer") for name in at_work]


# ---------------------------------------------------------------------------------------------- timers


def test_timers_are_those_of_the_release_that_is_live(world: World) -> None:
    push(world, "one", job("a"), job("b"))
    assert timers(world) == ["a", "b"]
    push(world, "two", job("b"), job("c"))
    assert timers(world) == ["b", "c"]
    world.rollback()
    assert timers(world) == ["a", "b"]
    push(world, "three")
    assert timers(world) == []
    assert list((world.root / cron_timers.UNITS).glob("homeport-*")) == []


@pytest.mark.parametrize("how", ["crashes", "500"])
def test_a_push_that_fails_changes_no_timer(world: World, how: str) -> None:
    push(world, "one", job("a"))
    reads = systemd(world).reads

    assert push(world, "two", job("b"), how=how)["result"] == "failed"
    assert (timers(world), systemd(world).reads) == (["a"], reads)


def test_a_push_that_is_taken_back_after_its_timers_were_changed_brings_back_the_old_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(world, "one", job("a"))
    follow = cron_timers.apply

    def breaks(app: Any, release: str | None, at: Host) -> None:
        follow(app, release, at)
        if "b" in timers(world):
            raise HostError("systemd is not well")

    monkeypatch.setattr(cron_timers, "apply", breaks)
    assert push(world, "two", job("b"))["result"] == "failed"
    assert timers(world) == ["a"]


def test_a_push_with_the_same_jobs_does_not_touch_systemd(world: World) -> None:
    push(world, "one", job("a"))
    reads = systemd(world).reads
    push(world, "two", job("a"))
    assert systemd(world).reads == reads


def test_a_push_of_other_jobs_alone_is_a_push(world: World) -> None:
    push(world, "one", job("a"))
    assert push(world, "one", job("a", timeout=5))["result"] == "live"


def test_a_unit_names_no_release_and_a_timer_both_of_its_times(world: World) -> None:
    push(world, "one", job("a", calendar=["*-*-13 00:00:00", "Fri *-*-* 00:00:00"]))
    texts = [path.read_text() for path in (world.root / cron_timers.UNITS).glob("homeport-shop-*")]

    assert len(texts) == 2
    assert not any(str(world.app.live()) in text for text in texts)
    assert "OnCalendar=*-*-13 00:00:00\nOnCalendar=Fri *-*-* 00:00:00\nPersistent=true\n" in "".join(texts)


@pytest.mark.parametrize("goes_on", [True, False], ids=["finished", "undone"])
def test_killed_at_any_act_the_timers_are_whole_when_it_is_finished_or_undone(world: World, goes_on: bool) -> None:
    first = push(world, "one", job("a"), job("b"))["release"]
    second = push(world, "two", job("b", calendar=["*-*-* 01:00:00"]), job("c"))["release"]
    for after in range(60):
        cron_timers.apply(world.app, first, host(world))
        KILLER.arm(world.root, after)
        try:
            cron_timers.apply(world.app, second, host(world))
        except Killed:
            KILLER.disarm()
            cron_timers.apply(world.app, second if goes_on else first, host(world))
            assert timers(world) == (["b", "c"] if goes_on else ["a", "b"])
            written = {path.name: path.read_text() for path in (world.root / cron_timers.UNITS).glob("homeport-*")}
            assert written == cron_timers.unit_files(
                world.app, jobs.of_release(world.app, second if goes_on else first)
            )
            continue
        KILLER.disarm()
        assert after > 10
        return
    pytest.fail("it never came to its end")


# ---------------------------------------------------------------------------------------------- resting


def test_a_suspended_job_rests_over_pushes_until_it_is_resumed(world: World) -> None:
    push(world, "one", job("a"), job("b"))
    told = commands.perform(world.app, "suspend", ["a"], ANN, host(world))["jobs"]
    assert [(one["name"], one["suspended"], one["fires"]) for one in told] == [("a", True, False), ("b", False, True)]
    push(world, "two", job("a", timeout=5), job("b"))
    assert timers(world) == ["b"]

    commands.perform(world.app, "resume", ["a"], ANN, host(world))
    assert timers(world) == ["a", "b"]
    assert [(one["verb"], one["message"]) for one in audit.read(world.app, 9) if "message" in one] == [
        ("cron suspend", "a"),
        ("cron resume", "a"),
    ]


def test_a_timer_that_somebody_stopped_is_started_by_resuming_its_job(world: World) -> None:
    push(world, "one", job("a"), job("b"))
    world.systemd.stop(jobs.timer(world.app, "a"))

    told = commands.perform(world.app, "resume", ["a"], ANN, host(world))["jobs"]

    assert [one["fires"] for one in told] == [True, True]
    assert timers(world) == ["a", "b"]


def test_a_job_that_is_not_there_cannot_be_suspended_nor_run(world: World) -> None:
    push(world, "one", job("a"))
    for action in ("suspend", "resume", "run"):
        with pytest.raises(HostError, match="has no job b; its jobs: a") as caught:
            commands.perform(world.app, action, ["b"], ANN, host(world))
        assert caught.value.code == USAGE


def test_where_there_are_no_jobs_there_is_nothing_to_tell(new_world: Any) -> None:
    world = new_world()
    assert commands.perform(world.app, "list", [], ANN, world) == {"jobs": []}
    world.push("one")
    assert commands.perform(world.app, "list", [], ANN, world) == {"jobs": []}
    assert cron_runs.stop_all(world.app, world) == []
    assert not (world.app.state / "cron").exists()


# ---------------------------------------------------------------------------------------------- runs


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program beside the instance is given, without a systemd that seals."""
    monkeypatch.setattr(one_off, "write_environment", lambda *_: None)
    monkeypatch.setattr(one_off, "properties", lambda *_: ["User=shop"])
    monkeypatch.setattr(one_off, "command", lambda argv: ["env", *argv])


@pytest.fixture
def runs(world: World, beside: None) -> World:
    push(world, "one", job(), job("sweep", words=[], expression='Shop.sweep("$x")', timeout=5))
    return world


def test_a_run_has_a_unit_of_its_own_that_ends_with_its_service_and_in_time(runs: World) -> None:
    run(runs)

    (unit, argv, properties) = systemd(runs).begun[0]
    assert unit == "homeport-shop-job@report.service"
    assert argv == ["env", str(runs.app.tree(str(runs.app.live())) / "bin/migrate")]
    assert {"User=shop", "RuntimeMaxSec=60", "BindsTo=homeport-shop-cron@report.service"} <= set(properties)


def test_an_expression_is_in_no_argument(runs: World) -> None:
    run(runs, "sweep")
    assert "sweep(" not in json.dumps(systemd(runs).begun[0][1])


def test_runs_are_counted_and_what_failed_twice_is_told(runs: World) -> None:
    def told() -> list[str]:
        return [reason for one in commands.status(runs.app, host(runs)) for reason in alerts.of_job(one)]

    systemd(runs).status = 3
    assert run(runs)["result"] == "failed"
    assert told() == []
    run(runs)
    assert told() == ["the job report failed 2 times in a row: deploy cron logs report"]
    one = commands.status(runs.app, host(runs))[0]
    assert (one["failures"], one["last"]["status"], one["good"]) == (2, 3, None)

    systemd(runs).status = 0
    run(runs)
    assert told() == []
    assert commands.status(runs.app, host(runs))[0]["good"] is not None


def test_a_suspended_job_is_nobodys_trouble_and_one_without_its_timer_is(runs: World) -> None:
    one = commands.status(runs.app, host(runs))[0]
    assert list(alerts.of_job({**one, "suspended": True, "fires": False, "failures": 9})) == []
    assert "does not run" in next(alerts.of_job({**one, "fires": False}))


def test_a_job_that_leaves_and_comes_back_begins_with_no_failure(runs: World) -> None:
    systemd(runs).status = 3
    run(runs)
    run(runs)
    push(runs, "two", job("other"))
    push(runs, "three", job())

    one = commands.status(runs.app, host(runs))[0]
    assert (one["failures"], one["last"]["result"]) == (0, "failed")


def test_a_run_that_waited_until_a_restore_was_done_is_judged_by_what_its_program_did(
    runs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = journal.create(runs.app, "20260101T000000000Z-abcdef", "restore", runs.app.live(), "", "", settings={})
    entry.begin("stop")

    def decided(_: float) -> None:
        systemd(runs).states[jobs.service(runs.app, "report")] = "active"
        cron_runs.stop_all(runs.app, host(runs))
        entry.set(result={"result": "live"}, closed=True)

    monkeypatch.setattr(runs, "sleep", decided)
    assert run(runs)["result"] == "ok"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"result": "ok", "status": 0}, "report of R: ok in 1.2 s"),
        ({"result": "failed", "status": 3}, "report of R: failed with 3 in 1.2 s"),
        ({"result": "timeout", "status": 1}, "report of R: timeout in 1.2 s"),
        ({"result": "failed", "error": "it could not begin"}, "report: it could not begin"),
    ],
)
def test_the_log_says_how_a_run_ended(more: dict[str, Any], expected: str) -> None:
    assert cron_runs.sentence({"job": "report", "release": "R", "seconds": 1.24, **more}) == expected


@pytest.mark.parametrize(
    ("status", "took", "stopped", "expected"),
    [(0, 1, False, "ok"), (1, 1, False, "failed"), (1, 60, False, "timeout"), (0, 60, True, "interrupted")],
)
def test_how_a_run_ended(status: int, took: float, stopped: bool, expected: str) -> None:
    assert cron_runs.result_of(status, took, 60, stopped) == expected


def test_a_run_that_a_restore_ends_is_interrupted_though_its_program_says_that_all_went_well(
    runs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Program):
        def wait(self) -> int:
            systemd(runs).states[jobs.service(runs.app, "report")] = "active"
            assert cron_runs.stop_all(runs.app, host(runs)) == ["report"]
            return 0

    monkeypatch.setattr(systemd(runs), "spawn", lambda *_: Endless(0))
    assert run(runs)["result"] == "interrupted"
    systemd(runs).states.clear()
    assert commands.status(runs.app, host(runs))[0]["failures"] == 0


def test_a_job_that_runs_is_not_begun_by_hand(runs: World) -> None:
    assert "started" in cron_runs.run(runs.app, "report", ANN, host(runs))
    systemd(runs).states[jobs.service(runs.app, "report")] = "active"
    with pytest.raises(HostError, match="runs already") as caught:
        cron_runs.run(runs.app, "report", ANN, host(runs))
    assert caught.value.code == LOCKED


def test_a_run_that_was_cut_short_is_told_so_and_counts_for_nothing(
    runs: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(systemd(runs), "spawn", killed)
    with pytest.raises(Killed):
        run(runs)

    one = commands.status(runs.app, host(runs))[0]
    assert (one["last"]["result"], one["failures"]) == ("interrupted", 0)
    assert commands.perform(runs.app, "progress", [], ANN, host(runs))["report"]["result"]["result"] == "interrupted"


def test_a_run_is_followed_to_its_end_though_a_push_takes_its_job_away(runs: World) -> None:
    run(runs)
    push(runs, "two", job("other"))

    told = commands.perform(runs.app, "progress", [], ANN, host(runs))
    assert (told["report"]["result"]["result"], told["other"]["result"]) == ("ok", None)


def test_no_job_begins_while_a_transition_has_stopped_the_app_and_those_that_run_end(runs: World) -> None:
    write_json(
        jobs.last_run(runs.app, "sweep"), {"begun": 1, "release": runs.app.live(), "ended": None, "result": None}
    )
    systemd(runs).states[jobs.service(runs.app, "sweep")] = "active"
    entry = journal.create(runs.app, "20260101T000000000Z-abcdef", "restore", runs.app.live(), "", "", settings={})
    assert cron_runs.obstacle(runs.app, host(runs)) == ""
    entry.begin("stop")

    assert cron_runs.stop_all(runs.app, host(runs)) == ["sweep"]
    assert cron_runs.obstacle(runs.app, host(runs)) == "a transition has stopped the app"
    told = run(runs)
    assert (told["result"], runs.now >= cron_runs.PATIENCE) == ("failed", True)
    assert "a transition has stopped the app" in told["error"]

    entry.set(result={"result": "live"}, closed=True)
    assert run(runs)["result"] == "ok"


def test_no_job_begins_where_the_live_instance_does_not_run(runs: World) -> None:
    runs.reboot()
    assert cron_runs.obstacle(runs.app, host(runs)) == "the live instance does not run"


def test_a_release_that_a_job_runs_is_kept(runs: World) -> None:
    release = str(runs.app.live())
    write_json(jobs.last_run(runs.app, "report"), {"begun": 1, "release": release, "ended": None, "result": None})
    systemd(runs).states[jobs.service(runs.app, "report")] = "active"
    for version in ("two", "three", "four", "five", "six"):
        push(runs, version, job())
        runs.drain_all()

    assert [one.running for one in prune.candidates(runs.app, runs.systemd) if one.release == release] == [True]  # type: ignore[arg-type]
    assert runs.app.tree(release).is_dir()


# ---------------------------------------------------------------------------------------------- before a push


def test_a_schedule_that_the_host_does_not_know_stops_the_push_before_anything_is_touched(world: World) -> None:
    with pytest.raises(HostError, match="the schedule 'soon' of the job report is not valid on this host") as caught:
        push(world, "one", job(schedule="soon", calendar=["soon"]))
    assert caught.value.code == USAGE
    assert world.states() == {}


def test_a_job_whose_program_is_not_in_the_release_stops_the_push_before_it_migrates(world: World) -> None:
    failed = push(world, "one", job(words=["bin/nope"]))
    assert "the job report: there is no program 'bin/nope'" in failed["error"]["what"]
    assert world.migrated == []


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "A"},
        {"name": "a/b"},
        {"calendar": []},
        {"calendar": ["*-*-* 00:00:00\nOnBootSec=1"]},
        {"calendar": ["%i"]},
        {"words": []},
        {"expression": "x"},
        {"timeout": 0},
        {"more": 1},
    ],
)
def test_a_spec_with_a_job_that_is_not_exactly_right_is_refused(broken: dict[str, Any]) -> None:
    assert schema.jobs([job()])
    assert not schema.jobs([job(**broken)])
    assert not schema.jobs([job(), job()])
