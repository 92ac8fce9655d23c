"""A page in the place of the app: what the edge finds on the disk, and who keeps a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hostworld import KILLER, Killed, World
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.common.net.http import Answer
from hostctl.core import audit, schema
from hostctl.core.actor import Actor
from hostctl.edge import maintenance
from hostctl.instance import agent
from hostctl.release import records

WHO = Actor("ann", "198.51.100.9")
SHOWN = Answer(503)


def asked(**more: Any) -> dict[str, Any]:
    return {"page": "<p>soon</p>", "message": "soon", "allow": ["203.0.113.7"], "retry_after": 60, **more}


def switch_on(world: World, **more: Any) -> dict[str, Any]:
    world.edge_answers = [SHOWN]
    return maintenance.on(world.app, asked(**more), WHO, world)  # type: ignore[arg-type]


def page(world: World) -> str:
    return (maintenance.folder(world.app) / "page" / "page.html").read_text()


def test_the_edge_finds_the_page_the_addresses_and_when_to_come_again(world: World) -> None:
    told = switch_on(world)
    place = maintenance.folder(world.app)
    assert told["maintenance"] == maintenance.current(world.app)
    assert (page(world), (place / "page/retry").read_text()) == ("<p>soon</p>", "60")
    assert [path.name for path in (place / "page/allow").iterdir()] == ["203.0.113.7"]
    # the edge is another user
    for path in [place, *place.rglob("*")]:
        assert path.is_symlink() or path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_switched_on_again_it_changes_the_page_and_keeps_since_when_it_is_shown(world: World) -> None:
    before = switch_on(world)["maintenance"]
    after = switch_on(world, page="<p>later</p>", message="later", allow=[])["maintenance"]
    assert (after["since"], after["message"], page(world)) == (before["since"], "later", "<p>later</p>")
    place = maintenance.folder(world.app)
    assert list((place / "page/allow").iterdir()) == []
    assert len(list((place / "pages").iterdir())) == 1


def test_switched_off_it_says_what_was_and_leaves_the_page_to_those_who_are_reading_it(world: World) -> None:
    was = switch_on(world)["maintenance"]
    assert maintenance.off(world.app, WHO) == {"maintenance": None, "was": was}
    assert maintenance.current(world.app) is None
    assert page(world)
    assert maintenance.off(world.app, WHO)["was"] is None
    assert [line["verb"] for line in audit.read(world.app, 9)] == ["maintenance on", "maintenance off"]


@pytest.mark.parametrize("answer", [Answer(200), Answer(404), Answer(502)])
def test_an_edge_that_knows_of_no_page_is_told_and_nothing_is_on(world: World, answer: Answer) -> None:
    world.edge_answers = [answer]
    with pytest.raises(HostError, match="knows of no maintenance page") as caught:
        maintenance.on(world.app, asked(), WHO, world)  # type: ignore[arg-type]
    assert caught.value.fix == "deploy provision"
    assert maintenance.current(world.app) is None


def test_an_edge_that_does_not_run_shows_the_page_as_soon_as_it_does(world: World) -> None:
    world.edge_answers = [Answer(0, why="refused")]
    assert maintenance.on(world.app, asked(), WHO, world)["maintenance"]  # type: ignore[arg-type]


def test_killed_at_any_instant_the_same_command_does_the_rest(new_world: Callable[[], World]) -> None:
    after = 0
    while True:
        world = new_world()
        world.edge_answers = [SHOWN]
        KILLER.arm(world.root, after)
        try:
            maintenance.on(world.app, asked(), WHO, world)  # type: ignore[arg-type]
            KILLER.disarm()
            break
        except Killed:
            KILLER.disarm()
        # what the edge finds is whole, or not there
        assert maintenance.current(world.app) is None or page(world) == "<p>soon</p>"
        assert switch_on(world)["maintenance"]["message"] == "soon"
        assert len(list((maintenance.folder(world.app) / "pages").iterdir())) == 1
        after += 1
    assert after > 10


# ---------------------------------------------------------------------------------------------- health checks pass


def health(world: World) -> str:
    return (world.app.live_link / maintenance.HEALTH).read_text()


def test_the_path_of_the_health_check_is_that_of_the_release_which_is_live(world: World) -> None:
    world.push("1")
    other = {"path": "/up", "interval": 0.5, "timeout": 1, "deploy_timeout": 5}
    assert health(world) == "/health"
    world.push("2", health=other)
    assert health(world) == "/up"
    world.rollback()
    assert health(world) == "/health"


@pytest.mark.parametrize(
    ("path", "compared"), [("/up?full=1", "/up"), ("/a%20b", "/a b"), ("/%C3%BC", "/ü"), ("/", "/")]
)
def test_the_path_is_compared_as_the_edge_reads_it(world: World, path: str, compared: str) -> None:
    world.push("1", health={"path": path, "interval": 0.5, "timeout": 1, "deploy_timeout": 5})
    assert health(world) == compared


def test_a_release_that_an_older_homeport_made_live_is_let_through_as_well(world: World) -> None:
    world.push("1")
    (world.app.live_link / maintenance.HEALTH).unlink()
    switch_on(world)
    assert health(world) == "/health"


def test_a_push_goes_on_behind_the_page_and_says_so(world: World) -> None:
    world.push("1")
    switch_on(world)
    result = world.push("2")
    assert result["result"] == "live"
    assert maintenance.current(world.app)
    told = [event for path in world.app.transitions.glob("*/events.jsonl") for event in files.read_lines(path)]
    assert any("visitors see the maintenance page" in str(event) for event in told)


# ---------------------------------------------------------------------------------------------- connections of before


@pytest.fixture
def instance(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The live instance, as it is asked to close its connections; `status` is what it answers, None for nothing."""
    world.push("1")
    told: dict[str, Any] = {"asked": [], "status": 0, "port": records.port(world.app, world.app.live() or "")}

    def rpc(_: Any, expression: str, *__: Any) -> int:
        told["asked"].append(expression)
        if told["status"] is None:
            raise HostError("the live instance cannot be asked")
        return int(told["status"])

    monkeypatch.setattr(agent, "find", lambda *_: None)
    monkeypatch.setattr(agent, "rpc", rpc)
    return told


def test_nobody_who_is_connected_is_cut_before_the_grace_is_over(world: World, instance: dict[str, Any]) -> None:
    world.connected[instance["port"]] = 3
    begun = world.now
    told = switch_on(world)
    assert (told["closed"], told["open"]) == (3, 0)
    # this app's drain_timeout is shorter than the grace
    assert 3 <= world.now - begun < 4
    assert f"{{:ok, {{_, {instance['port']}}}}}" in instance["asked"][0]


def test_an_instance_without_connections_is_not_asked(world: World, instance: dict[str, Any]) -> None:
    begun = world.now
    told = switch_on(world)
    assert (told["closed"], told["open"], world.now - begun, instance["asked"]) == (0, 0, 0, [])


@pytest.mark.parametrize("status", [None, 1])
def test_connections_that_stay_open_are_told(world: World, instance: dict[str, Any], status: int | None) -> None:
    instance["status"] = status
    world.connected[instance["port"]] = 2
    told = switch_on(world)
    assert (told["closed"], told["open"]) == (0, 2)
    assert maintenance.current(world.app)


# ---------------------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    "wrong",
    [
        {"page": ""},
        {"page": "x" * (1 << 20) + "x"},
        {"page": None},
        {"message": "two\nlines"},
        {"allow": ["../../etc"]},
        {"allow": [".."]},
        {"allow": ["10.0.0.0/8"]},
        {"allow": "203.0.113.7"},
        {"retry_after": 0},
        {"retry_after": 90_000},
        {"retry_after": True},
        {"more": 1},
    ],
)
def test_a_page_that_could_not_be_shown_is_refused(wrong: dict[str, Any]) -> None:
    assert schema.mistakes(schema.MAINTENANCE, asked(**wrong))
    assert schema.mistakes(schema.MAINTENANCE, asked()) == []


@given(st.text(max_size=60))
def test_whatever_address_is_taken_is_a_plain_file_name(text: str) -> None:
    if schema.mistakes(schema.MAINTENANCE, asked(allow=[text])) == []:
        assert "/" not in text
        assert text not in (".", "..", "")
