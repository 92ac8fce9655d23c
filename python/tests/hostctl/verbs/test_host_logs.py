"""`hostctl APP logs`: whose lines are read, and what is taken out of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hostworld import World
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import USAGE, HostError
from hostctl.cron import jobs
from hostctl.verbs import logs
from hostctl.verbs.logs import Query

RELEASE = "20260101T000000Z-aaaaaaa"


@pytest.fixture
def world(new_world: Any) -> World:
    made: World = new_world()
    return made


def entry(message: object, unit: str = f"shop@{RELEASE}.service", **more: object) -> dict[str, Any]:
    return {"__REALTIME_TIMESTAMP": "1767225600123456", "MESSAGE": message, "_SYSTEMD_UNIT": unit, **more}


def line(world: World, message: object, wanted: Query = Query(10), **more: Any) -> str:  # noqa: B008 - a tuple
    return "".join(logs.render(world.app, wanted, [entry(message, **more)]))


def test_no_pager_runs_as_root(world: World) -> None:
    assert "--no-pager" in logs.arguments(world.app, Query(50, follow=True))


@pytest.mark.parametrize(
    ("source", "release", "units"),
    [
        (None, None, ["shop@*.service", "homeport-shop-migrate-[0-9]*.service"]),
        (None, RELEASE, [f"shop@{RELEASE}.service", f"homeport-shop-migrate-{RELEASE}.service"]),
        ("app", None, ["shop@*.service"]),
        ("migrate", RELEASE, [f"homeport-shop-migrate-{RELEASE}.service"]),
        ("run", None, ["homeport-shop-run-[0-9]*.service"]),
        ("edge", None, ["caddy.service"]),
        ("db", None, ["homeport-shop-postgres.service", "homeport-shop-litestream.service"]),
    ],
)
def test_each_source_is_units_of_this_app_alone(
    world: World, source: str | None, release: str | None, units: list[str]
) -> None:
    assert logs.units(world.app, source, release) == units


def test_every_part_of_the_backup_is_in_its_lines(world: World) -> None:
    found = logs.units(world.app, "backup", None)
    for name in ("backup", "drill", "litestream", "tail", "watch"):
        assert f"homeport-shop-{name}.service" in found


def test_what_is_asked_reaches_journalctl_as_one_word_each(world: World) -> None:
    command = logs.arguments(world.app, Query(5, grep="-x --follow", since=12.0))
    assert "--grep=-x --follow" in command
    assert "--since=@12" in command
    assert "--follow" not in command
    assert "--lines=5" not in command  # with --grep the order would be turned round


def test_a_line_has_its_time_who_wrote_it_and_its_text(world: World) -> None:
    assert line(world, "hello") == f"2026-01-01T00:00:00.123Z {RELEASE} hello"
    assert line(world, "up", unit="homeport-shop-drill.service") == "2026-01-01T00:00:00.123Z drill up"
    assert line(world, "x", unit="init.scope", UNIT=f"shop@{RELEASE}.service").endswith(f"{RELEASE} x")


def test_as_json_each_line_is_one_document(world: World) -> None:
    told = json.loads(line(world, "hello\x1b[2J", Query(10, as_json=True), PRIORITY="3"))
    assert told == {
        "at": "2026-01-01T00:00:00.123Z",
        "unit": f"shop@{RELEASE}.service",
        "level": "error",
        "message": "hello\x1b[2J",
    }


def test_bytes_that_are_no_text_do_not_end_the_reading(world: World) -> None:
    assert line(world, [104, 105, 255]).endswith("hi�")
    assert line(world, None).endswith(" ")


@given(st.text(max_size=60))
def test_a_terminal_is_told_nothing_but_colours(text: str) -> None:
    cleaned = logs._CONTROL.sub("", text)
    assert not set(cleaned) & (set(map(chr, range(32))) - set("\t\n\x1b") | {"\x7f"})
    assert logs._CONTROL.sub("", "\x1b[31mred\x1b[0m\x1b]0;title\x07") == "\x1b[31mred\x1b[0m]0;title"


def test_secrets_of_every_release_are_taken_out_also_of_one_that_comes_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "REFRESH", 0.0)
    world.push("one")
    clean = logs.redactor(world.app)
    assert clean(f"the key is {world.secret}.") == "the key is [redacted]."

    world.push("two", secrets={"KEY": "another-secret"})
    assert clean(f"another-secret, not {world.secret}") == "[redacted], not [redacted]"


def test_the_edges_lines_of_another_app_are_not_shown(world: World) -> None:
    other = world.app.layout.app("blog")
    other.config.parent.mkdir(parents=True)
    other.config.write_text(json.dumps({"app": "blog", "user": "blog", "domains": ["blog.test"]}))
    edge = Query(10, source="edge")
    assert line(world, "no upstream for blog.test", edge, unit="caddy.service") == ""
    assert line(world, "no upstream for shop.test", edge, unit="caddy.service")


def test_the_release_that_failed_last_is_found_and_none_is_told_so(world: World) -> None:
    world.push("one")
    with pytest.raises(HostError, match="no release has failed") as caught:
        logs.newest_failed(world.app)
    assert caught.value.code == USAGE

    world.push("two", how="crashes")
    world.push("three", how="500")
    failed = [release for release, state in world.states().items() if state == "failed"]
    assert logs.newest_failed(world.app) == max(failed)


def test_what_the_journal_has_forgotten_was_kept_beside_the_record(world: World) -> None:
    world.push("one", how="crashes")
    out = io.StringIO()

    logs.print_saved(world.app, logs.newest_failed(world.app), out)

    assert "the last words of shop@" in out.getvalue()
    assert world.secret not in out.getvalue()


def test_one_release_must_be_meant(world: World) -> None:
    world.push("one")
    world.push("two")
    for wanted in ("", "2026", "9999"):
        with pytest.raises(HostError, match="match") as caught:
            logs.resolve(world.app, wanted)
        assert caught.value.code == USAGE
    assert Path(world.app.record(logs.resolve(world.app, world.app.live() or ""))).is_dir()


def test_the_logs_of_jobs_are_those_of_their_programs_and_of_what_runs_them(world: World) -> None:
    every = logs.arguments(world.app, Query(10, source="cron"))
    one = logs.arguments(world.app, Query(10, of=jobs.units(world.app, "report")))

    assert every[-4:] == ["-u", "homeport-shop-cron@*.service", "-u", "homeport-shop-job@*.service"]
    assert one[-4:] == ["-u", "homeport-shop-cron@report.service", "-u", "homeport-shop-job@report.service"]
    assert logs.label(world.app, "homeport-shop-job@report.service") == "job@report"
