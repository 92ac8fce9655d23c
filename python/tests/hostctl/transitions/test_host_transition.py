"""Pushes and rollbacks on a host in a directory: what serves afterwards, what is told, what is left."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hostworld import World

from hostctl.common.errors import FAILED, PERSON, REVERTED, USAGE, HostError
from hostctl.common.net.http import Answer
from hostctl.common.release import artifact
from hostctl.host import credentials, systemd
from hostctl.instance import health
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.release import records
from hostctl.transitions import begin, follow, plan, recover, tables
from hostctl.transitions.steps import drain, prune
from hostctl.verbs import status


def test_a_first_push_goes_live_step_by_step(world: World) -> None:
    result = world.push("one")
    assert result["result"] == "live"
    assert result["code"] == 0
    assert result["previous"] is None
    assert [step["name"] for step in result["steps"]] == [
        "unpack",
        "migrate",
        "start",
        "health",
        "flip",
        "verify",
        "live",
    ]
    assert world.app.live() == result["release"]
    assert world.running == {world.app.unit(result["release"])}
    assert world.events()[0] == ("lock", "ok")
    assert world.events()[-1] == ("live", "ok")


def test_a_second_push_supersedes_the_first_which_drains_and_ends(world: World) -> None:
    first, second = world.push("one"), world.push("two")
    assert world.app.unit(first["release"]) in world.running
    world.drain_all()
    assert world.running == {world.app.unit(second["release"])}
    assert world.states() == {first["release"]: "superseded", second["release"]: "live"}
    assert [step for step, state in world.events() if state == "ok"][-3:] == ["drain", "stop", "prune"]


@pytest.mark.parametrize("state", ["active", "inactive", "failed"])
def test_a_push_waits_until_the_unit_of_the_one_before_has_left(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Between the refusal and a look at the unit it may have left already: its state says nothing."""
    first, refusals = world.push("one"), iter(range(3))
    run, unit = world.systemd.background, world.app.helper_unit("transition")

    def background(name: str, argv: Sequence[str], properties: Sequence[str]) -> None:
        if name == unit and next(refusals, None) is not None:
            said = f"Unit {name} was already loaded or has a fragment file."
            raise HostError(f"systemd does not run {name}: {said}", reason=systemd.refusal_reason(said))
        run(name, argv, properties)

    monkeypatch.setattr(world.systemd, "background", background)
    monkeypatch.setattr(world, "state", lambda each: state if each == unit else "active")
    assert world.push("two")["previous"] == first["release"]
    assert next(refusals, None) is None


def test_what_both_releases_have_is_one_file_on_disk(world: World) -> None:
    first, second = world.push("one"), world.push("two")
    trees = [world.app.tree(result["release"]) for result in (first, second)]
    assert len({(tree / "shared").stat().st_ino for tree in trees}) == 1
    assert len({(tree / "bin/shop").stat().st_ino for tree in trees}) == 2


@pytest.mark.parametrize("how", ["500", "crashes"])
def test_a_sick_release_never_gets_a_request_and_the_old_one_serves_on(world: World, how: str) -> None:
    first = world.push("one")
    result = world.push("two", how)
    assert result["result"] == "failed"
    assert result["code"] == REVERTED
    assert world.app.live() == first["release"]
    assert world.running == {world.app.unit(first["release"])}
    assert world.states()[result["release"]] == "failed"
    assert not world.app.tree(result["release"]).exists()
    assert "flip" not in [step for step, _ in world.events()]


def test_a_first_push_that_fails_leaves_nothing_live_and_code_1(world: World) -> None:
    result = world.push("one", "crashes")
    assert result["code"] == FAILED
    assert world.app.live() is None
    assert world.running == set()
    assert not world.app.live_link.is_symlink()


def test_the_last_words_of_a_dead_instance_are_told_and_kept_without_secrets(world: World) -> None:
    world.push("one")
    result = world.push("two", "crashes")
    kept = (world.app.record(result["release"]) / "boot.log").read_text()
    assert "the last words" in result["error"]["what"]
    assert "the last words" in kept
    assert world.secret not in kept + json.dumps(result)


def test_a_migration_that_fails_stops_the_push_before_anything_starts(world: World) -> None:
    first = world.push("one")
    world.migration_status = 3
    result = world.push("two")
    assert result["code"] == REVERTED
    assert "status 3" in result["error"]["what"]
    assert world.running == {world.app.unit(first["release"])}
    assert [step["name"] for step in result["steps"]] == ["unpack"]


def test_a_migration_runs_as_the_app_in_its_sandbox_with_a_time_limit_and_its_output_is_kept(
    world: World,
) -> None:
    result = world.push("one")
    program, properties = world.migrated[0]
    assert program == str(world.app.tree(result["release"]) / "bin/migrate")
    assert "User=shop" in properties
    assert "RuntimeMaxSec=10" in properties
    log = (world.app.record(result["release"]) / "migrate.log").read_text()
    assert log == "migrating with [redacted]\n"


def test_no_migration_command_runs_none(world: World) -> None:
    assert world.push("one", commands={"migrate": None})["result"] == "live"
    assert world.push("two", commands={"migrate": "bin/other"})["result"] == "live"
    assert world.migrated == []


def test_an_edge_that_answers_wrongly_has_the_flip_undone(world: World) -> None:
    first = world.push("one")
    world.edge_answers = [Answer(502)] * 3
    result = world.push("two")
    assert result["code"] == REVERTED
    assert "https://shop.test" in result["error"]["what"]
    assert world.app.live() == first["release"]
    assert world.running == {world.app.unit(first["release"])}
    assert world.states() == {first["release"]: "live", result["release"]: "failed"}


def test_a_first_certificate_is_waited_for_and_said_so(world: World) -> None:
    world.edge_answers = [Answer(0, why="tls", detail="internal error")] * 20
    assert world.push("one")["result"] == "live"
    assert world.events().count(("verify", "note")) == 1


def test_a_certificate_that_never_comes_fails_the_push_after_a_minute(world: World) -> None:
    world.edge_answers = [Answer(0, why="tls", detail="internal error")] * 2000
    result = world.push("one")
    assert "no certificate for shop.test" in result["error"]["what"]
    assert 55 < world.now < 75


def test_a_name_that_redirects_to_another_of_the_app_passes(world: World) -> None:
    world.provision(domains=["shop.test", "www.shop.test"])
    world.edge_answers = [Answer(200), Answer(308, "https://shop.test/health")]
    assert world.push("one")["result"] == "live"
    world.edge_answers = [Answer(200), *[Answer(308, "https://elsewhere.test/")] * 3]
    assert world.push("two")["code"] == REVERTED


def test_an_undo_that_fails_asks_for_a_person(world: World) -> None:
    world.push("one")
    spec = world.spec("two")
    world.sick[spec["release"]] = "500"
    world.unstoppable.add(world.app.unit(spec["release"]))
    begin.push(world.app, spec, world)  # type: ignore[arg-type]
    assert world.result is not None
    assert world.result["code"] == PERSON
    assert "undoing start failed" in world.result["error"]["what"]


def test_restart_stops_the_old_before_the_new_starts_and_brings_it_back_when_that_fails(world: World) -> None:
    first = world.push("one", strategy="restart")
    result = world.push("two", strategy="restart")
    steps = [step for step, state in world.events() if state == "begin"]
    assert steps.index("stop") < steps.index("start")
    world.drain_all()
    failed = world.push("three", "crashes", strategy="restart")
    assert failed["code"] == REVERTED
    assert world.running == {world.app.unit(result["release"])}
    assert first["release"] != result["release"]


# ----------------------------------------------------------------------------------------- unchanged, refused


def test_pushing_what_is_live_changes_nothing(world: World) -> None:
    first = world.push("one")
    again = begin.push(world.app, world.spec("one"), world)  # type: ignore[arg-type]
    assert again == {"unchanged": True, "release": first["release"]}
    assert list(world.states()) == [first["release"]]


@pytest.mark.parametrize(
    "change",
    [{"env": {"COLOUR": "red"}}, {"secrets": {"KEY": "another one"}}, {"drain_timeout": 4}, {"secrets": {}}],
)
def test_another_environment_or_setting_is_a_change(world: World, change: dict[str, object]) -> None:
    world.push("one")
    assert world.push("one", **change)["result"] == "live"


def test_the_same_release_is_pushed_again_when_its_instance_died(world: World) -> None:
    world.push("one")
    world.running.clear()
    assert world.push("one")["result"] == "live"


def test_a_secret_without_a_value_keeps_the_one_that_is_live(world: World) -> None:
    world.push("one")
    result = world.push("two", secrets={"KEY": None})
    assert records.environment(world.app, result["release"])["KEY"] == world.secret


def test_a_secret_that_nobody_has_is_refused_by_name(world: World) -> None:
    with pytest.raises(HostError, match="OTHER") as caught:
        world.push("one", secrets={"OTHER": None})
    assert caught.value.code == USAGE
    assert world.states() == {}


def test_a_variable_that_hostctl_sets_is_refused(world: World) -> None:
    with pytest.raises(HostError, match="PORT"):
        world.push("one", env={"PORT": "4000"})


def test_an_artifact_that_never_came_is_refused_and_nothing_changed(world: World) -> None:
    spec = world.spec("one")
    world.app.artifact(spec["digest"]).unlink()
    with pytest.raises(HostError, match="artifact"):
        begin.push(world.app, spec, world)  # type: ignore[arg-type]
    assert journal.every(world.app) == []


def test_an_artifact_that_is_no_tar_fails_the_push_and_the_old_release_serves(world: World) -> None:
    first = world.push("one")
    spec = world.spec("two")
    world.app.artifact(spec["digest"]).write_bytes(b"no tar at all" * 100)
    begin.push(world.app, spec, world)  # type: ignore[arg-type]
    assert world.result is not None
    assert world.result["code"] == REVERTED
    assert world.app.live() == first["release"]


# --------------------------------------------------------------------------------------------- secrecy, modes


def test_secrets_are_in_no_file_but_sealed(world: World) -> None:
    result = world.push("one")
    world.push("two", "crashes")
    assert [p for p in world.root.rglob("*") if p.is_file() and world.secret.encode() in p.read_bytes()] == []
    record = world.app.record(result["release"])
    assert records.environment(world.app, result["release"])["KEY"] == world.secret
    assert credentials.read(record / "secrets/KEY", "secret_KEY") == world.secret.encode()
    assert stat.S_IMODE((record / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in (record / "environment.cred", record / "secrets/KEY")} == {0o600}


def test_the_edge_can_read_the_port_through_the_live_link_and_nothing_else(world: World) -> None:
    result = world.push("one")
    assert (world.app.live_link / "port").read_text() == str(records.port(world.app, result["release"]))
    for path in (world.app.state, world.app.records, world.app.record(result["release"])):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    # the agent holds nothing of the app's, and the instance reads it as its own user
    public = ("port", "agent.erl", "health")
    found = [path for path in world.app.record(result["release"]).rglob("*") if path.name not in public]
    files = [path for path in found if path.is_file()]
    assert [path.name for path in files if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    assert stat.S_IMODE((world.app.live_link / "port").stat().st_mode) == 0o644


def test_the_port_of_an_instance_is_roots_alone_until_the_flip_and_cannot_be_foreseen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    start = world.systemd.start

    def look(unit: str) -> None:
        start(unit)
        seen.append(stat.S_IMODE((world.app.record(unit[5:-8]) / "port").stat().st_mode))

    monkeypatch.setattr(world.systemd, "start", look)
    ports = [records.port(world.app, world.push(str(number))["release"]) for number in range(6)]
    assert seen == [0o600] * 6
    assert len({after - before for before, after in pairwise(map(int, filter(None, ports)))}) > 1


def test_an_instance_can_listen_on_its_own_port_alone(world: World) -> None:
    release = world.push("one")["release"]
    assert world.allowed[world.app.unit(release)] == records.port(world.app, release)
    world.allowed.clear()
    world.reboot()
    recover.boot([world.app], world)  # type: ignore[arg-type]
    assert world.allowed[world.app.unit(release)] == records.port(world.app, release)


def take_the_port(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another app's process listens on the port of each instance that is started, and answers as it would."""
    start = world.systemd.start

    def stolen(unit: str) -> None:
        start(unit)
        world.foreign.add(records.next_port(world.app, unit[5:-8]))

    monkeypatch.setattr(world.systemd, "start", stolen)


def test_a_push_whose_port_another_process_answers_is_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.push("one")["release"]
    take_the_port(world, monkeypatch)
    result = world.push("two")
    assert (result["code"], world.app.live()) == (REVERTED, first)
    assert "is not of shop@" in result["error"]["what"]


def test_a_port_that_is_taken_after_the_health_check_gets_no_visitors(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.push("one")["release"]
    healthy = health.check_health

    def stolen(work: Work) -> str:
        told = healthy(work)
        world.foreign.add(records.next_port(work.app, work.release))
        return told

    monkeypatch.setattr(tables, "PUSH", [_replaced(row, stolen) for row in tables.PUSH])
    monkeypatch.setitem(tables.TABLES, "push", tables.PUSH)
    result = world.push("two")
    assert (result["code"], world.app.live()) == (REVERTED, first)
    assert ("flip", "failed") in world.events()


def _replaced(row: tables.Row, do: Callable[[Work], str]) -> tables.Row:
    return row._replace(step=row.step._replace(do=do)) if row.step.name == "health" else row


def test_status_believes_nobody_else_who_answers_on_the_port(world: World) -> None:
    release = world.push("one")["release"]
    world.foreign.add(records.port(world.app, release) or 0)
    told = status.status(world.app, world)["health"]  # type: ignore[arg-type]
    assert (told["ok"], told["status"]) == (False, 200)
    assert f"a process that is not of shop@{release}" in told["text"]
    found = status.status(world.app, world)["live"]  # type: ignore[arg-type]
    assert found is not None
    assert found["listener"] == "foreign"
    world.foreign.clear()
    found = status.status(world.app, world)["live"]  # type: ignore[arg-type]
    assert found is not None
    assert "listener" not in found


def test_each_instance_has_a_port_of_its_own(world: World) -> None:
    first, second = world.push("one"), world.push("two")
    ports = [records.port(world.app, result["release"]) for result in (first, second)]
    assert len(set(ports)) == 2
    assert [records.environment(world.app, r["release"])["PORT"] for r in (first, second)] == [str(p) for p in ports]


# ---------------------------------------------------------------------------------------------- rollback


def test_a_rollback_takes_back_a_release_that_still_drains_without_starting_it(world: World) -> None:
    first, second = world.push("one"), world.push("two")
    result = world.rollback()
    assert result["release"] == first["release"]
    assert world.app.live() == first["release"]
    assert world.app.unit(first["release"]) in world.running
    world.drain_all()
    assert world.running == {world.app.unit(first["release"])}
    assert world.states() == {first["release"]: "live", second["release"]: "superseded"}


def test_a_rollback_starts_a_release_that_has_ended(world: World) -> None:
    first = world.push("one")
    world.push("two")
    world.drain_all()
    assert world.rollback()["release"] == first["release"]
    world.drain_all()
    assert world.running == {world.app.unit(first["release"])}


def test_a_second_rollback_does_not_go_to_what_was_taken_back(world: World) -> None:
    first = world.push("one")
    world.push("two")
    world.push("three")
    world.rollback()
    assert world.rollback()["release"] == first["release"]
    with pytest.raises(HostError, match="taken back"):
        world.rollback()


def test_a_rollback_that_fails_keeps_the_live_release_and_what_it_knew_of_the_target(world: World) -> None:
    first, second = world.push("one"), world.push("two")
    world.drain_all()
    world.sick[first["release"]] = "500"
    result = world.rollback()
    assert result["code"] == REVERTED
    assert world.app.live() == second["release"]
    assert world.running == {world.app.unit(second["release"])}
    assert world.states() == {first["release"]: "superseded", second["release"]: "live"}
    assert world.app.tree(first["release"]).is_dir()


def test_a_rollback_to_a_failed_release_is_refused(world: World) -> None:
    world.push("one")
    failed = world.push("two", "500")
    with pytest.raises(HostError, match="never live"):
        world.rollback(failed["release"])


# -------------------------------------------------------------------------------------------- drains, pruning


def test_a_push_waits_for_an_older_drain_but_no_longer_than_its_time(world: World) -> None:
    first = world.push("one", drain_timeout=30)
    world.push("two", drain_timeout=30)
    world.connected[records.port(world.app, first["release"]) or 0] = 1
    begun = world.now
    third = world.push("three")
    assert 29 < world.now - begun < 35
    assert ("wait", "note") in world.events()
    assert world.app.unit(first["release"]) not in world.running
    assert third["result"] == "live"


def test_a_rollback_does_not_wait_for_a_drain(world: World) -> None:
    world.push("one", drain_timeout=300)
    world.push("two", drain_timeout=300)
    world.rollback()
    assert world.now < 10


def test_an_open_connection_keeps_the_old_instance_until_its_time_is_up(world: World) -> None:
    first = world.push("one")
    world.push("two", drain_timeout=7)
    world.connected[records.port(world.app, first["release"]) or 0] = 1
    begun = world.now
    world.drain_all()
    assert 7 <= world.now - begun < 8
    assert world.app.unit(first["release"]) not in world.running


def test_a_drain_never_stops_what_is_live(world: World) -> None:
    first = world.push("one")
    world.push("two")
    entry = journal.draining(world.app)[0]
    world.app.live_link.unlink()
    world.app.live_link.symlink_to(f"releases/{first['release']}")
    drain.run(drain.Work(world.app, entry, world))  # type: ignore[arg-type]
    assert world.app.unit(first["release"]) in world.running


def test_releases_beyond_those_retained_go_with_their_trees_static_files_and_artifacts(world: World) -> None:
    for number in range(6):
        world.push(f"v{number}", retain_releases=3)
        world.drain_all()
    kept = sorted(world.states())
    assert len(kept) == 3
    assert sorted(path.name for path in world.app.trees.iterdir()) == kept
    assert sorted(path.name for path in (world.app.assets / "assets").iterdir()) == [f"app-v{n}.js" for n in (3, 4, 5)]
    assert len(list(world.app.artifacts.glob("*.tar"))) == 3


def test_static_files_of_a_superseded_release_stay_reachable(world: World) -> None:
    world.push("one")
    world.push("two")
    world.drain_all()
    files = world.app.assets / "assets"
    assert {path.read_text() for path in files.iterdir()} == {"one", "two"}
    assert stat.S_IMODE((files / "app-one.js").stat().st_mode) == 0o644


def test_of_failed_releases_the_newest_two_are_remembered(world: World) -> None:
    world.push("one")
    for number in range(4):
        world.push(f"bad{number}", "500")
    assert list(world.states().values()).count("failed") == 2


def test_an_artifact_just_received_is_not_pruned_before_its_push(world: World) -> None:
    waiting = world.artifact("later")
    world.push("one")
    world.push("two", "500")
    assert world.app.artifact(waiting).is_file()


# ------------------------------------------------------------------------------------ boot, recovery, telling


def test_after_a_reboot_what_is_live_starts_and_drains_are_over(world: World) -> None:
    world.push("one")
    second = world.push("two")
    world.reboot()
    told = recover.boot([world.app], world)  # type: ignore[arg-type]
    assert told == {"started": {"shop": second["release"]}, "errors": {}}
    assert world.running == {world.app.unit(second["release"])}
    assert journal.draining(world.app) == []


def test_one_apps_damage_does_not_keep_another_from_booting(world: World) -> None:
    first = world.push("one")
    other = world.app.layout.app("broken")
    other.transitions.mkdir(parents=True)
    bad = other.transitions / "20260101T000000000Z-aaaaaa"
    bad.mkdir()
    (bad / "journal.json").write_text('{"id": "20260101T000000000Z-aaaaaa"}')
    world.reboot()
    told = recover.boot([other, world.app], world)  # type: ignore[arg-type]
    assert list(told["errors"]) == ["broken"]
    assert world.running == {world.app.unit(first["release"])}


def test_follow_gives_each_event_once_and_the_result_last(world: World) -> None:
    result = world.push("one")
    first = follow.follow(world.app, None, 0, 0)
    assert first["done"]
    assert first["result"] == result
    assert [event["n"] for event in first["events"]] == list(range(1, len(first["events"]) + 1))
    again = follow.follow(world.app, first["transition"], first["next"], 0)
    assert again["events"] == []


def test_follow_without_any_transition_is_refused(world: World) -> None:
    with pytest.raises(HostError, match="no transition"):
        follow.follow(world.app, None, 0, 0)


def test_status_tells_what_is_live_and_whether_it_is_healthy(world: World) -> None:
    result = world.push("one")
    told = status.status(world.app, world)  # type: ignore[arg-type]
    assert told["live"]["release"] == result["release"]
    assert told["live"]["instance"] == world.app.unit(result["release"])
    assert told["health"] == {"ok": True, "status": 200, "text": ""}
    assert told["lock"] is None
    world.sick[result["release"]] = "500"
    assert status.status(world.app, world)["health"]["ok"] is False  # type: ignore[arg-type]


def test_status_before_the_first_push(world: World) -> None:
    told = status.status(world.app, world)  # type: ignore[arg-type]
    assert told["live"] is None
    assert told["health"]["ok"] is False


def test_the_audit_says_who_did_what_with_which_result(world: World) -> None:
    from hostctl.core import audit

    world.push("one")
    world.push("two", "500")
    lines = audit.read(world.app, 10)
    assert [(line["who"], line["verb"], line["result"], line["code"]) for line in lines] == [
        ("ann", "push", "live", 0),
        ("ann", "push", "failed", 3),
    ]


def test_the_plan_names_what_would_change_and_changes_nothing(world: World) -> None:
    first = world.push("one")
    spec = world.spec("two", env={"COLOUR": "red"}, drain_timeout=9)
    spec["secrets"] = {"KEY": "0" * 64, "NEW": None}
    told = plan.plan(world.app, spec)
    assert told["unchanged"] is False
    assert told["previous"] == first["release"]
    assert told["changed_keys"] == ["drain_timeout", "env.clear.COLOUR", "env.secret.KEY", "env.secret.NEW"]
    assert list(world.states()) == [first["release"]]


def test_the_plan_of_what_is_live_is_no_change(world: World) -> None:
    import hashlib

    world.push("one")
    spec = world.spec("one")
    spec["secrets"] = {"KEY": hashlib.sha256(world.secret.encode()).hexdigest()}
    assert plan.plan(world.app, spec)["unchanged"] is True


def test_the_artifact_helper_and_hostctl_agree_on_what_is_unpacked(world: World) -> None:
    result = world.push("one")
    manifest = artifact.from_json((world.app.record(result["release"]) / "manifest.json").read_text())
    assert "bin/shop" in manifest
    assert prune.candidates(world.app, None)[0].present
