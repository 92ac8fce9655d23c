"""When a base backup is due, when WAL is dropped, how pgBackRest is configured, what a monitor is told: no server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hostctl.backup.settings import Backup, Credentials
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App, Layout
from hostctl.notify import alerts
from hostctl.postgres.archive import monitor, pgbackrest
from hostctl.postgres.archive.timelines import Base, Gap

DAY = 86_400.0
BACKUP = Backup("bucket", "shop", "eu-central-1", snapshot_interval=6 * 3600, full_interval=7 * DAY, retention=7 * DAY)
KEYS = Credentials("ACCESS", "the-secret", "the phrase")
GIB = 1 << 30


@pytest.fixture
def app(tmp_path: Path) -> App:
    return Layout(tmp_path).app("shop")


def base(kind: str, begun: float) -> Base:
    return Base(f"{begun}", kind, begun, begun + 10, 1, 0, 1)


@pytest.mark.parametrize(
    ("bases", "owed", "wanted"),
    [
        ([], False, "full"),
        ([base("full", 10 * DAY - 60)], False, None),
        ([base("full", 10 * DAY - 60)], True, "full"),
        ([base("full", 9.5 * DAY)], False, "incr"),
        ([base("full", 9 * DAY), base("incr", 9.9 * DAY)], False, None),
        ([base("full", 3 * DAY), base("incr", 9.9 * DAY)], False, "full"),
    ],
)
def test_a_base_backup_is_due(bases: list[Base], owed: bool, wanted: str | None) -> None:
    assert monitor.due_backup(10 * DAY, bases, BACKUP, owed) == wanted


@pytest.mark.parametrize(
    ("held", "free", "dropped"),
    [(10, 0.5, False), (641, 0.5, True), (640, 0.5, False), (10, 0.09, True), (3, 0.01, False)],
)
def test_log_is_dropped_only_where_the_disk_would_fill(held: int, free: float, dropped: bool) -> None:
    assert monitor.must_drop(held, 16 << 20, 10 * GIB, free) == dropped


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_the_repository_is_the_epochs_own_and_reached_as_the_backup_says(app: App) -> None:
    found = settings(pgbackrest.render(app, BACKUP, KEYS, "20261121T140118Z-7cf2c6"))
    assert found["repo1-path"] == "/shop/20261121T140118Z-7cf2c6/pg"
    assert (found["repo1-s3-endpoint"], found["repo1-storage-port"]) == ("s3.eu-central-1.amazonaws.com", "443")
    assert (found["repo1-s3-uri-style"], found["repo1-retention-full"]) == ("host", "7")
    assert found["pg1-path"] == str(app.cluster_data)
    assert "repo1-cipher-type" not in found
    other = BACKUP._replace(endpoint="https://s3.test:8443", path_style=True, ca=Path("/ca.pem"), encrypted=True)
    found = settings(pgbackrest.render(app, other, KEYS, "20261121T140118Z-7cf2c6"))
    assert (found["repo1-s3-endpoint"], found["repo1-storage-port"]) == ("s3.test", "8443")
    assert (found["repo1-s3-uri-style"], found["repo1-storage-ca-file"]) == ("path", "/ca.pem")
    assert (found["repo1-cipher-type"], found["repo1-cipher-pass"]) == ("aes-256-cbc", "the phrase")


def test_pgbackrests_words_are_told_without_its_clock_and_processes() -> None:
    said = "2026-11-21 14:01:18.609 P00  WARN: x\n2026-11-21 14:01:18.609 P01  ERROR: [082]: unable to push\n HINT: y\n"
    assert pgbackrest.error_text(said) == "unable to push"
    assert pgbackrest.error_text("\n") == "it wrote no message"


def one(**more: Any) -> Json:
    told: Json = {"label": "20261121-140137F", "type": "full", "error": False, "timestamp": {"start": 97, "stop": 101}}
    told |= {"lsn": {"start": "0/5000028", "stop": "0/5000100"}, "archive": {"start": "000000020000000000000005"}}
    return told | {"info": {"size": 30_873_453, "repository": {"delta": 3_784_199}}} | more


def test_what_pgbackrest_knows_of_base_backups_is_read_without_those_that_went_wrong() -> None:
    text = json.dumps([{"backup": [one(), one(label="bad", error=True)]}])
    wanted = Base("20261121-140137F", "full", 97.0, 101.0, 2, 0x5000028, 0x5000100, 30_873_453, 3_784_199)
    assert pgbackrest.parse_info(text) == [wanted]
    assert pgbackrest.parse_info("[]") == []
    with pytest.raises(HostError, match="output of pgbackrest info is invalid"):
        pgbackrest.parse_info(json.dumps([{"backup": [one(lsn=None)]}]))


def status(**more: object) -> Json:
    backup: Json = {"stream": "active", "service": "the WAL stream", "superseded": None, "lag": 0.1, "max_lag": 60}
    backup |= {"watch": {"at": 100.0, "error": None}, "opened": 50.0, "drill": None, "last_good": None}
    backup |= {"schedule": "weekly", "gaps": [], "dropping": None, "run": {"ok": True, "found": []}}
    return {"engine": "postgres", "server": "active", "indexes": [], "disk": None, "backup": backup | more}


def test_a_sound_database_is_nobodys_trouble() -> None:
    assert alerts.of_database(status(), 110.0) == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"stream": "failed"}, "the WAL stream is failed"),
        ({"dropping": {"at": 100.0}}, "log is dropped since"),
        ({"gaps": [Gap(90.0)._asdict()]}, "until the next full backup"),
        ({"run": {"ok": False, "found": ["no room"]}}, "the last base backup failed: no room"),
    ],
)
def test_what_is_wrong_with_the_archive_is_told(more: Json, says: str) -> None:
    (found,) = alerts.of_database(status(**more), 110.0)
    assert says in found


def test_a_gap_that_is_healed_is_history() -> None:
    assert alerts.of_database(status(gaps=[Gap(90.0, 95.0)._asdict()]), 110.0) == []


def test_a_dead_server_and_an_invalid_index_are_told() -> None:
    index = {"name": "public.orders_at", "table": "orders", "repair": "REINDEX INDEX CONCURRENTLY public.orders_at"}
    found = alerts.of_database({**status(), "server": "failed", "indexes": [index]}, 110.0)
    assert [text for text in found if "does not run" in text or "REINDEX INDEX CONCURRENTLY" in text] == found
    assert len(found) == 2


@pytest.mark.parametrize(
    ("codes", "ends"),
    [([0], 0), ([1], 1), ([1, 0], 0), ([1, 1], 1), ([0, 103], 0), ([103, 0], 255), ([1, 103], 255), ([], 1)],
)
def test_a_store_that_fails_does_not_pass_for_the_end_of_the_log(codes: list[int], ends: int) -> None:
    command = pgbackrest.restore_command([f"(exit {code})" for code in codes])
    assert subprocess.run(["sh", "-c", command], check=False).returncode == ends
