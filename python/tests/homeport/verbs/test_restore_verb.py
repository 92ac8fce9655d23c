"""Bringing data back, before the host is asked: the words of a person, what is told, what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.deployment.transition import loss_lines, target_options
from homeport.plays.actions.switch import options_of
from homeport.verbs import restore, rollback


def asked(*args: str) -> Any:
    return CliRunner().invoke(restore.command, list(args), standalone_mode=False)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine is two hours ahead of UTC."""
    monkeypatch.setenv("TZ", "XXX-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T10:03:22Z", 1795255402.0),
        ("2026-11-21T12:03:22+02:00", 1795255402.0),
        ("2026-11-21T12:03:22", 1795255402.0),
        ("2026-11-21 12:03", 1795255380.0),
        ("2026-11-21T10:03:22.250Z", 1795255402.25),
    ],
)
def test_a_time_is_read_with_its_zone_or_in_this_machines(zone: None, text: str, seconds: float) -> None:
    parameter = next(option for option in restore.command.params if option.name == "at")
    assert restore._a_time(None, parameter, text) == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--at", "yesterday"], "is not a time such as"),
        (["--at", "0000-00-00"], "is not a time such as"),
        (["--point", "x"], "is not the id of a restore point"),
        (["--at", "2026-11-21T10:03:22Z", "--point", "20261121T100322123Z-3f2a9c"], "exclude each other"),
        (["--dry-run", "--to", "x"], "exclude each other"),
        (["--force"], "for --to FILE"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(args: list[str], says: str) -> None:
    assert says in str(asked(*args).exception)


def test_a_rollback_with_data_needs_no_force_and_one_without_no_yes() -> None:
    for args in (["--with-data", "--force"], ["--yes"]):
        assert "--" in str(CliRunner().invoke(rollback.command, args, standalone_mode=False).exception)


def test_what_is_given_up_is_told_in_seconds_and_rows() -> None:
    tables = {"shop.db": {"orders": [1200, 1150], "users": [3, 3], "new": [7, None], "gone": [None, 2]}}
    given = {"since": 1795255402.0, "seconds": 131.6, "tables": tables}
    assert loss_lines(given) == [
        "  loses all writes of the last 2.2 minutes, since 2026-11-21T10:03:22Z",
        "  shop.db: orders has 1,200 rows, and had 1,150 rows",
        "  shop.db: new has 7 rows, and had none",
        "  shop.db: gone has none, and had 2 rows",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 seconds"), (119, "119 seconds"), (7300, "2.0 hours"), (400_000, "4.6 days")]
)
def test_a_duration_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert f"of the last {text}," in loss_lines({"since": 0, "seconds": seconds, "tables": {}})[0]


def test_only_what_is_set_reaches_hostctl() -> None:
    told = {"verb": "rollback", "to": "", "force": False, "with_data": True, "point": "p"}
    assert options_of(told) == ["--with-data", "--point", "p"]
    assert options_of({"verb": "restore", "at": 0.0, "point": ""}) == ["--at", "0.0"]
    assert target_options(1795255402.25, "") == ["--at", "1795255402.25"]
    assert target_options(None, "p") == ["--point", "p"]
    assert target_options(None, "") == []


def test_a_rehearsal_is_read_at_a_glance() -> None:
    one = {"bytes": 2_100_000, "seconds": 0.31, "tables": {"orders": 1150}, "versions": [], "canary": [1, 3, 3]}
    given = {"since": 1795255402.0, "seconds": 10, "tables": {}}
    found = {"at": 1795255402.0, "databases": {"shop.db": one}, "gives_up": given}
    assert restore.lines(found)[:3] == [
        "the data of 2026-11-21T10:03:22Z can be restored",
        "  shop.db: 2.1 MB, intact, in 0.3 s",
        "    rows: orders 1,150",
    ]
