"""What `deploy backup`, `deploy db` and `deploy status` print, and how they follow what goes on without them."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.core.errors import ExitCode, HomeportError
from homeport.remote import database_transfer, long_jobs
from homeport.remote.hostctl import Hostctl
from homeport.screen import confirm
from homeport.ssh import connection
from homeport.verbs import backup, db, status

GOOD = {
    "at": "2026-11-20T03:00:00Z",
    "ok": True,
    "bytes": 12_300_000,
    "seconds": 1.23,
    "found": [],
    "up_to": "2026-11-20T02:59:59Z",
}


def told(**more: Any) -> dict[str, Any]:
    stream = {
        "bucket": "backups", "prefix": "shop", "epoch": "e1", "opened": "2026-11-01T00:00:00Z", "stream": "active",
        "lag": 0.21, "max_lag": 60.0, "superseded": None, "owed": None, "drill": GOOD, "last_good": GOOD,
        "next_drill": "2026-11-27T03:00:00Z", "left_open": None, **more,
    }  # fmt: skip
    return {"database": {"path": "/var/lib/shop/shop.db", "bytes": 4096, "backup": stream}, "trouble": []}


def test_the_status_of_a_good_backup_is_read_at_a_glance() -> None:
    assert backup.lines(told()) == [
        "bucket       s3://backups/shop",
        "epoch        e1 since 2026-11-01T00:00:00Z",
        "stream       0.2 s behind; the limit is 60 s",
        "drill        restored 2026-11-20T03:00:00Z (12.3 MB in 1.2 s)",
        "next drill   2026-11-27T03:00:00Z",
    ]
    assert status._database(told()["database"])[1] == (
        "backup       0.2 s behind; restored 2026-11-20T03:00:00Z (12.3 MB in 1.2 s)"
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"superseded": {"why": "web2 took over"}},
            "SUPERSEDED   web2 took over; to take it back: deploy backup takeover",
        ),
        ({"owed": {"since": "now", "why": "a crash"}}, "required     a snapshot since now: a crash"),
        ({"left_open": "a hole"}, "left open    a hole"),
        ({"stream": "failed"}, "NOT STREAMING (Litestream is failed)"),
        ({"lag": None}, "its lag is not known yet"),
        ({"drill": None, "last_good": None}, "drill        never drilled yet"),
        ({"drill": {**GOOD, "ok": False}}, "THE LAST DRILL FAILED, restored 2026-11-20T03:00:00Z"),
        ({"next_drill": None}, "next drill   not scheduled"),
    ],
)
def test_what_is_not_as_it_should_be_stands_out(more: dict[str, Any], says: str) -> None:
    assert says in "\n".join(backup.lines(told(**more)))


def test_no_backup_is_said_loudly() -> None:
    none = {"database": {"path": "/var/lib/shop/shop.db", "bytes": 4096, "backup": None}, "trouble": []}
    assert backup.lines(none)[0].startswith("NONE")
    assert "NONE" in status._database(none["database"])[1]  # type: ignore[arg-type]
    assert status._database(None) == []
    assert "SUPERSEDED" in status._database(told(superseded={"why": "w"})["database"])[1]


def test_a_list_names_points_epochs_and_what_is_proven() -> None:
    found = {
        "points": [{"id": "p1", "at": "then", "for": "r2"}],
        "epochs": [
            {"epoch": "e1", "opened": "o", "host": "web", "databases": {"shop.db": {"from": "a", "to": "b"}, "x": None}}
        ],
        "aside": [{"id": "t1", "since": "s", "bytes": 2_000_000, "why": ""}],
        "last_good": GOOD,
    }
    assert backup.restorable(found) == [
        "point  p1  then  before r2",
        "epoch  e1  opened o by web",
        "       shop.db  from a to b",
        "       x  nothing",
        "kept   t1  s  2.0 MB  -",
        "proven up to 2026-11-20T02:59:59Z by the drill of 2026-11-20T03:00:00Z",
    ]
    assert backup.restorable({"points": [], "epochs": [], "last_good": None}) == ["no drill has proven the backup yet"]


def test_kept_data_is_deleted_only_after_a_person_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "20261101T120000000Z-000001"
    asked: list[bool] = []

    class Asked(Host):
        def call(self, *args: str, stdin: bytes = b"") -> dict[str, Any]:
            assert args[:4] == ("backup", "forget", "--id", name)
            asked.append("--plan" not in args)
            return {"id": name, "since": 1_793_448_000.0, "bytes": 2_000_000, "why": "what was live before"}

    monkeypatch.setattr("homeport.remote.session.begin", lambda options: SimpleNamespace(hostctl=Asked({})))
    refused = CliRunner().invoke(backup.command, ["forget", name])
    assert "2.0 MB of data, kept since 2026-10-31T12:00:00Z (what was live before), will be deleted for good" in str(
        refused.exception
    )
    assert asked == [False]
    done = CliRunner().invoke(backup.command, ["forget", name, "--yes"])
    assert (done.exit_code, asked) == (0, [False, False, True])
    assert "deleted 2.0 MB of data" in done.output
    assert CliRunner().invoke(backup.command, ["forget", "no-id", "--yes"]).exit_code == 2
    assert len(asked) == 3


def test_where_nobody_can_be_asked_yes_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    confirm.confirm("It is replaced.", True)
    with pytest.raises(HomeportError) as refused:
        confirm.confirm("It is replaced.", False)
    assert (refused.value.code, refused.value.fix) == (ExitCode.USAGE, "add --yes")


def test_a_damaged_backup_names_both_ways_out() -> None:
    assert backup._fix({"damaged": True, "offer": "It can be restored"}) == (
        "deploy backup run (a full snapshot), then deploy backup drill. It can be restored"
    )
    assert backup._fix({"found": ["S3 is away"]}) == "deploy backup status"


# ---------------------------------------------------------------------------------------------- following


class Host(Hostctl):
    """A host that answers what a test has written down, one answer a call."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        super().__init__("shop", "deploy@web", lambda command, stdin: (0, b"", b""))

    def call(self, *args: str, stdin: bytes = b"") -> dict[str, Any]:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return {"drill": found}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_jobs, "POLL_SECONDS", 0.0)


def answer(running: bool, at: float | None = None, step: str = "") -> dict[str, Any]:
    return {"running": running, "step": step, "result": {"at": at} if at is not None else None}


def test_a_drill_is_followed_to_its_own_result_and_not_to_the_one_before() -> None:
    steps: list[str] = []
    host = Host(
        answer(False, 5),
        answer(True, 5, "restoring"),
        connection.UnreachableError("gone"),
        answer(True, 11),
        answer(False, 11),
    )
    assert long_jobs.follow(host, "drill", 10, steps.append) == {"at": 11}
    assert "restoring" in steps


def test_a_host_that_is_not_heard_of_again_needs_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_jobs, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(HomeportError) as lost:
        long_jobs.follow(Host(connection.UnreachableError("gone")), "drill", 10, lambda step: None)
    assert lost.value.code == ExitCode.PERSON
    assert "continues there" in lost.value.what


def test_a_drill_that_ends_without_a_result_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_jobs, "GRACE_SECONDS", 0.0)
    with pytest.raises(HomeportError, match="without a result"):
        long_jobs.follow(Host(answer(False, 5)), "drill", 10, lambda step: None)


# ---------------------------------------------------------------------------------------------- files


def test_a_file_with_a_part_beside_it_is_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    file.write_bytes(b"not SQLite")
    with pytest.raises(HomeportError, match="not a SQLite database"):
        database_transfer.check(file, "sqlite")
    file.write_bytes(database_transfer.MAGIC + b"\0" * 100)
    database_transfer.check(file, "sqlite")
    file.with_name("shop.db-wal").write_bytes(b"x")
    with pytest.raises(HomeportError, match=r"still in shop\.db-wal"):
        database_transfer.check(file, "sqlite")


def test_only_a_dump_in_postgresqls_own_form_is_sent_to_it(tmp_path: Path) -> None:
    file = tmp_path / "shop.dump"
    for begins in (b"", b"PGDM", b"--\n-- PostgreSQL database dump\n", database_transfer.MAGIC):
        file.write_bytes(begins)
        with pytest.raises(HomeportError) as refused:
            database_transfer.check(file, "postgres")
        assert "pg_dump --format=custom" in refused.value.fix
    file.write_bytes(b"PGDMP\1")
    database_transfer.check(file, "postgres")
    with pytest.raises(HomeportError, match="an external database cannot be replaced"):
        database_transfer.check(file, "external")


@pytest.mark.parametrize("force", [True, False])
def test_a_copy_takes_its_name_only_when_whole_and_overwrites_only_when_told(tmp_path: Path, force: bool) -> None:
    part, target = tmp_path / ".part", tmp_path / "shop.db"
    part.write_text("new")
    target.write_text("old")
    if force:
        database_transfer._publish(part, target, force=True)
    else:
        with pytest.raises(HomeportError, match="exists already"):
            database_transfer._publish(part, target, force=False)
    assert target.read_text() == ("new" if force else "old")


def test_a_refusal_in_place_of_a_file_is_told_as_it_is() -> None:
    assert database_transfer._header(b'{"bytes":1,"sha256":"00"}\n') == {"bytes": 1, "sha256": "00"}
    for line in (b'{"error":{}}\n', b"Permission denied\n", b""):
        assert database_transfer._header(line) is None


def test_every_verb_has_its_help() -> None:
    assert set(backup.command.commands) == {
        "status",
        "run",
        "list",
        "drill",
        "takeover",
        "check",
        "create-bucket",
        "forget",
    }
    assert set(db.command.commands) == {"console", "dump", "load", "tunnel", "upgrade"}
    assert all(verb.help for group in (backup.command, db.command) for verb in group.commands.values())
