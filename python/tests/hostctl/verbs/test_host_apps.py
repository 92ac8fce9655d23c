"""Every app of a host, told in one list."""

from __future__ import annotations

import pytest
from hostworld import World

from hostctl.common.files import write_json
from hostctl.verbs import apps


def test_an_app_is_listed_with_what_is_live_and_its_names(world: World) -> None:
    (empty,) = apps.every(world.app.layout, world)  # type: ignore[arg-type]
    assert (empty["app"], empty["state"], empty["live"]) == ("shop", "empty", None)
    world.push("one")
    (told,) = apps.every(world.app.layout, world)  # type: ignore[arg-type]
    assert (told["state"], told["live"]["release"], told["engine"]) == ("live", world.app.live(), None)
    assert told["domains"] == ["shop.test"]
    assert told["bytes"] > 0


def test_an_app_is_told_with_the_destination_that_it_was_provisioned_as(world: World) -> None:
    world.provision(destination="staging")
    (told,) = apps.every(world.app.layout, world)  # type: ignore[arg-type]
    assert told["destination"] == "staging"
    world.provision(destination="")
    (told,) = apps.every(world.app.layout, world)  # type: ignore[arg-type]
    assert told["destination"] is None


def test_an_app_that_does_not_answer_is_failing(world: World) -> None:
    release = world.push("one")["release"]
    world.sick[release] = "crash"
    (told,) = apps.every(world.app.layout, world)  # type: ignore[arg-type]
    assert told["state"] == "failing"
    assert "not healthy" in told["why"]


def test_one_app_that_cannot_be_read_hides_no_other(world: World) -> None:
    broken = world.app.layout.app("broken").config
    broken.parent.mkdir(parents=True)
    write_json(broken, {"app": "somebody else", "domains": ["b.test"]})
    told = {one["app"]: one for one in apps.every(world.app.layout, world)}  # type: ignore[arg-type]
    assert (told["broken"]["state"], told["shop"]["state"]) == ("unknown", "empty")
    assert "cannot be read" in told["broken"]["why"]


def test_files_of_several_names_count_once(world: World) -> None:
    world.app.srv.mkdir(parents=True, exist_ok=True)
    (world.app.srv / "a").write_bytes(bytes(1 << 20))
    before = apps.used_space(world.app)
    (world.app.srv / "b").hardlink_to(world.app.srv / "a")
    after = apps.used_space(world.app)
    assert before is not None
    assert after == pytest.approx(before, abs=64 << 10)
