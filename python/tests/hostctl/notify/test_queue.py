"""Whoever has something to tell writes a file and goes on; what sends it tries for hours, and each notice is told."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hostworld import KILLER, Killed, World
from hypothesis import given
from hypothesis import strategies as st

from hostctl import cli, engines
from hostctl.backup import drill
from hostctl.common import message
from hostctl.common.errors import USAGE, HostError
from hostctl.common.message import Post
from hostctl.common.net.webhook import Delivery
from hostctl.host import credentials
from hostctl.journal import journal
from hostctl.notify import events, queue
from hostctl.transitions import begin, recover
from hostctl.verbs import status

URL = "https://hooks.test/T0-secret"
ALL = {"url": "TEAM_URL", "format": "json", "on": list(message.EVENTS)}


def receive(world: World, *receivers: dict[str, Any]) -> None:
    """Provision receivers, all at the same URL."""
    told = list(receivers) or [ALL]
    events.save(world.app, {"receivers": told, "urls": {one["url"]: URL for one in told}})


def queued(world: World) -> list[dict[str, Any]]:
    return [told for _, told in queue.pending(world.app)]


class Wire:
    """Answers as it is told to, 200 when it is told nothing more, and keeps what was sent."""

    def __init__(self, *answers: Delivery) -> None:
        self.answers, self.sent = list(answers), []  # type: ignore[var-annotated]

    def __call__(self, url: str, what: Post) -> Delivery:
        self.sent.append((url, json.loads(what.body)))
        return self.answers.pop(0) if self.answers else Delivery(200, "ok")


# ---------------------------------------------------------------------------------------------- what is told


def test_a_push_is_told_to_whoever_wants_to_know(world: World) -> None:
    receive(world, ALL, {"url": "PAGER_URL", "format": "plain", "on": ["failure"]})
    result = world.push("1")
    (told,) = queued(world)
    assert told["receiver"]["url"] == "TEAM_URL"
    assert (told["event"], told["facts"]["release"]) == ("success", result["release"])
    assert told["text"] == f"main {'0' * 7}: 1"


def test_a_push_that_fails_and_a_rollback_are_told_as_what_they_are(world: World) -> None:
    receive(world, {**ALL, "on": ["failure", "rollback"]})
    first = world.push("1")["release"]
    world.push("2", how="500")
    world.push("3")
    world.rollback()
    failed, back = queued(world)
    assert (failed["event"], failed["facts"]["live"]) == ("failure", first)
    assert f"{first} serves on" in failed["title"]
    assert (back["event"], back["facts"]["release"]) == ("rollback", first)


def test_an_app_that_tells_nobody_keeps_no_queue(world: World) -> None:
    world.push("1")
    assert not world.app.notify.exists()


def test_a_queue_that_cannot_be_written_fails_no_push(world: World) -> None:
    receive(world)
    world.app.notify.write_text("in the way")
    assert world.push("1")["result"] == "live"


def test_a_push_that_was_killed_anywhere_is_told_how_it_ended(new_world: Callable[[], World]) -> None:
    for acts in range(0, 10_000, 5):
        world = new_world()
        receive(world)
        if pushed_until(world, acts):
            return
        for entry in journal.unfinished(world.app):
            recover.everything(world.app, world)  # type: ignore[arg-type]
            assert entry.id in [told["facts"]["transition"] for told in queued(world)], f"killed after {acts} acts"


def pushed_until(world: World, acts: int) -> bool:
    """Push, killed after so many acts; whether it came to its end."""
    spec = world.spec("1")
    KILLER.arm(world.root, acts)
    try:
        begin.push(world.app, spec, world)  # type: ignore[arg-type]
    except Killed:
        return False
    finally:
        KILLER.disarm()
    return True


# ---------------------------------------------------------------------------------------------- trouble


def looks(*found: list[str]) -> list[list[str] | None]:
    """What is told after each look, a minute apart."""
    state, told = None, []
    for minute, one in enumerate(found):
        state, what = events.judge(state, one, 60.0 * minute)
        told.append(what)
    return told


LAG, STREAM = "the newest write on S3 is {} s old, and 60 s is the most", "nothing streams to S3: Litestream is failed"


def test_trouble_is_told_when_it_lasts_and_when_it_ends() -> None:
    found = [LAG.format(seconds) for seconds in (70, 130, 190)]
    assert looks([], [found[0]], [found[1]], [found[2]], [], []) == [None, None, [found[1]], None, [], None]


def test_trouble_that_is_mended_at_once_is_nobodys() -> None:
    assert looks([STREAM], [], [STREAM], []) == [None, None, None, None]


def test_more_trouble_is_told_beside_what_is_known() -> None:
    assert looks([LAG.format(70)], [LAG.format(80)], [LAG.format(90), STREAM], [LAG.format(95), STREAM]) == [
        None,
        [LAG.format(80)],
        None,
        [LAG.format(95), STREAM],
    ]


@given(st.lists(st.lists(st.sampled_from([LAG.format(1), STREAM, "the disk is full"]), unique=True)))
def test_every_trouble_that_was_told_has_one_end(found: list[list[str]]) -> None:
    told = [one for one in looks(*found, []) if one is not None]
    ends = [one for one in told if not one]
    assert len(ends) <= len(told) - len(ends)
    assert not told or told[-1] == []


def test_a_look_that_was_left_to_others_tells_nothing(world: World) -> None:
    receive(world)
    database = {"log_bytes": 2 << 30}
    for looked in ({"paused": True}, {"left_to": "a provisioning"}) * 2:
        events.monitor_ran(world.app, looked, database)
    assert queued(world) == []
    for _ in range(2):
        events.monitor_ran(world.app, {"error": None}, database)
    assert [one["event"] for one in queued(world)] == ["trouble"]
    events.monitor_ran(world.app, {"error": None}, {})
    assert [one["well"] for one in queued(world)] == [False, True]


def test_every_look_of_the_watch_is_judged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(replication=SimpleNamespace(run_action=lambda *_: {"error": None}))
    monkeypatch.setattr(engines, "require", lambda _: engine)
    monkeypatch.setattr(status, "database", lambda *_: {"log_bytes": 2 << 30})
    receive(world)
    for expected in ([], ["trouble"], ["trouble"]):
        assert cli.VERBS["stream"](world.app, Namespace(action="watch", allow_empty=False)) == {"error": None}
        assert [one["event"] for one in queued(world)] == expected


def test_a_drill_that_fails_and_one_that_passes_again_are_told(world: World) -> None:
    receive(world)
    failed = {"at": 1.0, "ok": False, "found": ["app.db: a row is missing"], "offer": "", "up_to": None, "seconds": 1}
    passed = {**failed, "at": 2.0, "ok": True, "found": []}
    for before, result in ((None, failed), (failed, passed), (passed, {**passed, "at": 3.0})):
        events.drill_ended(world.app, before, result)
    assert sorted(one["title"] for one in queued(world)) == [
        "shop: the backup failed its drill",
        "shop: the backup passed its drill again",
    ]


def test_whatever_keeps_a_drill_from_passing_is_told(world: World) -> None:
    backup = {"bucket": "b", "prefix": "shop", "region": "r"}
    world.app.database.write_text(json.dumps({"engine": "sqlite", "backup": backup}))
    receive(world)
    with pytest.raises(HostError, match="failed its drill"):
        drill.run(world.app, world, world.app.state / "copy", lambda _: [])  # type: ignore[arg-type]
    (told,) = queued(world)
    assert (told["event"], told["well"]) == ("drill", False)
    assert "this host has no epoch" in told["text"]


# ---------------------------------------------------------------------------------------------- sending


def test_what_waits_is_sent_and_gone(world: World) -> None:
    receive(world)
    world.push("1")
    wire = Wire()
    assert queue.deliver(world.app, world, wire) == {"sent": 1, "given_up": 0}  # type: ignore[arg-type]
    ((url, sent),) = wire.sent
    assert (url, sent["event"]) == (URL, "success")
    assert queued(world) == []
    assert queue.listing(world.app)[0]["last"]["ok"] is True


def test_a_receiver_that_does_not_take_it_is_asked_again_and_the_others_are_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(world, ALL, {**ALL, "url": "OTHER_URL"})
    monkeypatch.setattr(queue.time, "time", lambda: 1_800_000_000.0 + world.now)
    world.push("1")
    wire = Wire(Delivery(503, "busy"), Delivery(200, "ok"), Delivery(0, "no answer within 10 s"))
    queue.deliver(world.app, world, wire)  # type: ignore[arg-type]
    assert len(wire.sent) == 4
    assert queued(world) == []
    assert world.now > queue.WAITS[0] + queue.WAITS[1]


def test_a_receiver_that_is_gone_for_good_is_given_up(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    receive(world)
    world.push("1")
    assert queue.deliver(world.app, world, Wire(Delivery(404, "no_service"))) == {"sent": 0, "given_up": 1}  # type: ignore[arg-type]
    assert "TEAM_URL did not accept the notice" in capsys.readouterr().err
    last = queue.listing(world.app)[0]["last"]
    assert (last["ok"], last["status"], last["next_try"]) == (False, 404, None)


@given(st.floats(0, 1e6), st.integers(0, 50))
def test_nobody_is_asked_longer_than_hours_nor_all_the_time(age: float, tries: int) -> None:
    told = {"at": 0.0, "tries": tries, "event": "success"}
    then = queue.next_try(told, age)
    assert then is None or age + queue.WAITS[0] <= then <= queue.LONGEST


def test_a_clock_that_was_set_back_puts_nothing_off() -> None:
    assert queue.is_due({"next": 1e9}, 1e6)
    assert not queue.is_due({"next": 1e6 + 60}, 1e6)


def test_what_is_for_nobody_any_more_goes(world: World) -> None:
    receive(world)
    world.push("1")
    receive(world, {**ALL, "url": "OTHER_URL"})
    assert queued(world) == []


# ---------------------------------------------------------------------------------------------- what is kept


def test_a_url_is_sealed_and_kept_where_none_is_given(world: World) -> None:
    given = {"receivers": [ALL], "urls": {"TEAM_URL": URL}}
    assert events.save(world.app, given) is True
    assert events.save(world.app, given) is False
    assert events.save(world.app, {**given, "urls": {"TEAM_URL": None}}) is False
    kept = world.app.notify_urls / "TEAM_URL.cred"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert credentials.read(kept, events.SEALED_AS) == URL.encode()
    assert events.save(world.app, {"receivers": [], "urls": {}}) is True
    assert not kept.exists()


@pytest.mark.parametrize(
    ("url", "says"), [(None, "the host has no URL yet"), ("http://hooks.test/T0-secret", "must be a URL")]
)
def test_a_url_that_is_none_is_refused_before_anything_is_kept(world: World, url: str | None, says: str) -> None:
    with pytest.raises(HostError, match=says) as raised:
        events.save(world.app, {"receivers": [ALL], "urls": {"TEAM_URL": url}})
    assert raised.value.code == USAGE
    assert "T0-secret" not in str(raised.value.as_dict())
    assert events.receivers(world.app) == []


def test_a_test_without_receivers_is_refused(world: World) -> None:
    with pytest.raises(HostError, match="the app has no receivers"):
        queue.send_test(world.app, "ann", "laptop", world)  # type: ignore[arg-type]


def test_a_test_that_nothing_sends_says_so_and_leaves_nothing(world: World) -> None:
    receive(world)
    (found,) = queue.send_test(world.app, "ann", "laptop", world)  # type: ignore[arg-type]
    assert (found["ok"], found["answer"]) == (False, "the host did not send it within 25 s")
    assert queued(world) == []
