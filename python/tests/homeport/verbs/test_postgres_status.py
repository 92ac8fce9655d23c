"""What is printed of an app's PostgreSQL: the server, the archive, what cannot be restored."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.core.timestamps import with_iso_times
from homeport.verbs import backup, status

DRILL = {"at": 1795255402.0, "ok": True, "bytes": 12_300_000, "seconds": 1.23, "found": [], "up_to": 1795255400.0}
ARCHIVER = {
    "archived": "00000001000000000000000A",
    "archived_at": 1795255400.0,
    "fails": False,
    "failures": 0,
    "waiting": 0,
}
FULL = {"label": "20261121-100000F", "kind": "full", "at": 1795250000.0, "bytes": 31_000_000}
INCREMENTAL = {"label": "20261121-100000F_20261121-110000I", "kind": "incr", "at": 1795255000.0, "bytes": 31_000_000}


def told(database: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The status of a healthy PostgreSQL, with changes to its server and to its backup."""
    archive = {
        "bucket": "backups", "prefix": "shop", "epoch": "e1", "opened": 1795240000.0, "stream": "active",
        "lag": 0.21, "max_lag": 60.0, "superseded": None, "owed": None, "drill": DRILL, "last_good": DRILL,
        "next_drill": 1795300000.0, "left_open": None, "service": "the WAL stream", "archiver": ARCHIVER,
        "dropping": None, "timeline": 1, "gaps": [], "encrypted": False, "full": FULL, "newest": INCREMENTAL, **more,
    }  # fmt: skip
    server = {
        "engine": "postgres", "path": "/var/lib/postgresql/homeport/shop/data", "name": "shop", "server": "active",
        "version": "17.6", "max_connections": 35, "connections": 12, "bytes": 31_000_000, "pool": 10, "indexes": [],
        "backup": archive, **(database or {}),
    }  # fmt: skip
    found: dict[str, Any] = with_iso_times({"database": server, "trouble": []})
    return found


def test_a_good_backup_is_read_at_a_glance() -> None:
    assert backup.lines(told()) == [
        "bucket       s3://backups/shop",
        "epoch        e1 since 2026-11-21T05:46:40Z",
        "stream       0.2 s behind; the limit is 60 s",
        "drill        restored 2026-11-21T10:03:22Z (12.3 MB in 1.2 s)",
        "next drill   2026-11-21T22:26:40Z",
        "archive      nothing waits, the last arrived 2026-11-21T10:03:20Z",
        "full backup  2026-11-21T08:33:20Z (20261121-100000F, 31.0 MB)",
        "newest       2026-11-21T09:56:40Z (20261121-100000F_20261121-110000I, 31.0 MB)",
    ]
    assert status._database(told()["database"]) == [
        "database     PostgreSQL 17.6, shop, 31.0 MB, 12 of 35 connections",
        "backup       0.2 s behind; restored 2026-11-21T10:03:22Z (12.3 MB in 1.2 s)",
    ]


GAP = {"since": 1795250000.0, "until": None}
CLOSED = {"since": 1795250000.0, "until": 1795250600.0}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"gaps": [GAP]}, "gap          NOTHING after 2026-11-21T08:33:20Z can be restored until"),
        ({"gaps": [CLOSED]}, "nothing between 2026-11-21T08:33:20Z and 2026-11-21T08:43:20Z can be restored"),
        ({"archiver": {**ARCHIVER, "fails": True, "failures": 7, "waiting": 3}}, "3 segments wait"),
        ({"archiver": {**ARCHIVER, "fails": True, "failures": 7}}, "THE LAST TRY FAILED, 7 in all"),
        ({"archiver": {**ARCHIVER, "archived_at": None}}, "the last arrived never"),
        ({"archiver": None}, "not known: the server does not answer"),
        ({"dropping": {"at": 1795250600.0, "since": 1795250000.0}}, "THE LOG IS DROPPED since 2026-11-21T08:33:20Z"),
        ({"full": None}, "full backup  NONE yet"),
        ({"owed": {"since": "now", "why": "a gap"}}, "required     a full backup since now: a gap"),
        ({"encrypted": True}, "encrypted    with the key named by backup.encryption_key"),
        ({"stream": "failed"}, "NOT STREAMING (the WAL stream is failed)"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_stands_out(more: dict[str, Any], says: str) -> None:
    assert says in "\n".join(backup.lines(told(**more)))


def test_an_open_gap_is_in_the_short_status_too_and_a_closed_one_is_not() -> None:
    assert "THERE IS A GAP" in status._database(told(gaps=[CLOSED, GAP])["database"])[-1]
    assert "GAP" not in status._database(told(gaps=[CLOSED])["database"])[-1]


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ({"server": "failed"}, ["database     PostgreSQL IS FAILED"]),
        ({"version": None, "bytes": None}, ["database     PostgreSQL DOES NOT ANSWER"]),
        (
            {"indexes": [{"name": "orders_at", "table": "orders", "repair": "REINDEX INDEX CONCURRENTLY orders_at"}]},
            [
                "database     PostgreSQL 17.6, shop, 31.0 MB, 12 of 35 connections",
                "index        INVALID orders_at of orders; REINDEX INDEX CONCURRENTLY orders_at",
            ],
        ),
    ],
)
def test_what_is_wrong_with_the_server_is_told(database: dict[str, Any], says: list[str]) -> None:
    assert status._database(told(database)["database"])[:-1] == says


def test_the_backups_of_a_provider_are_its_own() -> None:
    database = {"engine": "external", "url": "DATABASE_URL", "pool": 10, "disk": None, "backup": None}

    assert backup.lines({"database": database, "trouble": []}) == [
        "the provider's: Homeport does not back up an external database"
    ]
    assert status._database(database) == [
        "database     PostgreSQL of a provider (DATABASE_URL)",
        "backup       the provider's: Homeport does not back up an external database",
    ]


def test_a_list_has_the_base_backups_and_the_gaps_of_each_epoch() -> None:
    base = {
        "label": "20261121-100000F",
        "kind": "full",
        "begun": 1795249990.0,
        "ended": 1795250000.0,
        "size": 31_000_000,
    }
    epoch = {
        "epoch": "e1", "opened": 1795240000.0, "host": "web", "bases": [base], "gaps": [CLOSED],
        "databases": {"shop": {"from": 1795250000.0, "to": 1795255402.0}},
    }  # fmt: skip
    assert backup.restorable(with_iso_times({"points": [], "epochs": [epoch], "last_good": None})) == [
        "epoch  e1  opened 2026-11-21T05:46:40Z by web",
        "       shop  from 2026-11-21T08:33:20Z to 2026-11-21T10:03:22Z",
        "       full   2026-11-21T08:33:20Z (20261121-100000F, 31.0 MB)",
        "       gap    nothing between 2026-11-21T08:33:20Z and 2026-11-21T08:43:20Z can be restored",
        "no drill has proven the backup yet",
    ]
