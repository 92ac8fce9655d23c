"""What a monitor is told."""

from __future__ import annotations

from typing import Any

import pytest

from hostctl.notify.alerts import DAY, of_database, trouble

NOW = 1_800_000_000.0
GOOD = {"at": NOW - DAY, "ok": True, "found": []}


def told(**backup: Any) -> dict[str, Any]:
    """A document without trouble, but for what is given of its backup."""
    stream: dict[str, Any] = {
        "superseded": None, "stream": "active", "lag": 0.2, "max_lag": 60, "opened": NOW - 90 * DAY,
        "watch": {"at": NOW - 30, "error": None}, "drill": GOOD, "last_good": GOOD, "schedule": "weekly",
    }  # fmt: skip
    room = {"free": 50, "total": 100, "inodes_free": 50, "inodes": 100}
    return {
        "health": {"ok": True}, "disk": room, "certificate": {"name": "shop.test", "not_after": NOW + 60 * DAY},
        "database": {"disk": room, "backup": {**stream, **backup}},
    }  # fmt: skip


def test_when_all_is_well_nothing_is_said() -> None:
    assert trouble(told(), NOW) == []


@pytest.mark.parametrize(
    ("backup", "says"),
    [
        ({"lag": 61}, "61 s old"),
        ({"stream": "failed"}, "Litestream is failed"),
        ({"superseded": {"why": "epoch of web2"}}, "epoch of web2"),
        ({"watch": None}, "monitor has not checked"),
        ({"watch": {"at": NOW - 400}}, "monitor has not checked the stream to S3 since"),
        ({"watch": {"at": NOW, "error": "S3 said no"}}, "S3 said no"),
        ({"last_good": {**GOOD, "at": NOW - 15 * DAY}}, "no drill has restored the backup since"),
        ({"schedule": "daily", "last_good": {**GOOD, "at": NOW - 3 * DAY}}, "2 days is the most"),
        ({"drill": {"at": NOW, "ok": False, "found": ["a hole"]}}, "the last drill failed: a hole"),
        ({"drill": None, "last_good": None}, "no drill has restored the backup yet"),
    ],
)
def test_what_is_wrong_with_the_backup_is_said(backup: dict[str, Any], says: str) -> None:
    (found,) = trouble(told(**backup), NOW)
    assert says in found


@pytest.mark.parametrize(
    "backup",
    [
        {"lag": None},
        {"lag": 59},
        {"last_good": {**GOOD, "at": NOW - 13 * DAY}},
        {"schedule": "monthly", "last_good": {**GOOD, "at": NOW - 60 * DAY}},
        {"drill": None, "last_good": None, "opened": NOW - 13 * DAY},
    ],
)
def test_what_is_within_its_limits_is_not_said(backup: dict[str, Any]) -> None:
    assert trouble(told(**backup), NOW) == []


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("disk", {"free": 9, "total": 100, "inodes_free": 50, "inodes": 100}, "9 % of its bytes"),
        ("disk", {"free": 50, "total": 100, "inodes_free": 1, "inodes": 100}, "1 % of its inodes"),
        ("certificate", {"name": "shop.test", "not_after": NOW + 13 * DAY}, "shop.test expires in 13 days"),
        ("certificate", {"name": "shop.test", "not_after": NOW - 1}, "has expired"),
        ("health", {"ok": False, "text": "answered 500"}, "answered 500"),
    ],
)
def test_what_is_wrong_with_the_host_is_said(key: str, value: dict[str, Any], says: str) -> None:
    (found,) = trouble({**told(), key: value}, NOW)
    assert says in found


def test_a_log_that_nobody_checkpoints_is_said() -> None:
    found = of_database({"log_bytes": 3 << 30, "backup": None}, NOW)
    assert found == ["no process checkpoints the database: its log has grown to 3072 MB"]


def test_a_file_system_without_inodes_and_an_app_without_certificate_or_backup_are_no_trouble() -> None:
    room = {"free": 50, "total": 100, "inodes_free": 0, "inodes": 0}
    assert trouble({**told(), "disk": room, "certificate": None, "database": {"disk": room, "backup": None}}, NOW) == []
    assert of_database(None, NOW) == []
