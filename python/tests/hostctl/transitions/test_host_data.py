"""Transitions that exchange the data: what the app finds afterwards, what is kept, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dataworld import FIRST, DataWorld
from hostworld import SCRATCH

from hostctl import cli
from hostctl.backup import restore_points
from hostctl.backup.settings import Database
from hostctl.common.errors import FAILED, PERSON, REVERTED, USAGE, HostError
from hostctl.common.files import file_digest, make_directory, write_json
from hostctl.core import audit
from hostctl.journal import journal
from hostctl.sqlite.database import file_swap
from hostctl.transitions import begin
from hostctl.transitions.steps import restore

DESTRUCTIVE = "DELETE FROM items WHERE n = 'before'"


@pytest.fixture
def world() -> Iterator[DataWorld]:
    root = Path(tempfile.mkdtemp(prefix="hostctl-test-", dir=SCRATCH))
    made = DataWorld(root)
    made.provision()
    yield made
    shutil.rmtree(root)


def pushed(world: DataWorld) -> tuple[str, str]:
    """Two releases live one after the other, the second's migration destroys; rows before, between and after."""
    world.write("before")
    first = world.push("one")["release"]
    world.write("between")
    world.migration = DESTRUCTIVE
    second = world.push("two")["release"]
    world.drain_all()
    world.write("after")
    assert world.rows() == ["between", "after"]
    return first, second


def told(world: DataWorld, step: str) -> str:
    """What a step of the last transition said at its end."""
    entry = journal.every(world.app)[-1]
    events = map(json.loads, (entry.directory / "events.jsonl").read_text().splitlines())
    return next(str(event["text"]) for event in events if (event["step"], event["state"]) == (step, "ok"))


# ---------------------------------------------------------------------------------------------- restore points


def test_a_push_with_a_new_migration_takes_a_restore_point_just_before_it(world: DataWorld) -> None:
    first, second = pushed(world)
    (point,) = restore_points.all_points(world.app)
    assert (point["release"], point["for"]) == (first, second)
    kept = world.app.points / point["id"] / "shop.db"
    assert world.rows(kept) == ["before", "between"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.app.points.stat().st_mode) == 0o700
    steps = [step for step, state in world.events() if state == "begin"]
    assert steps[:4] == ["unpack", "settings", "point", "migrate"]
    assert "shop.db: 0.0 MB copied in" in told(world, "point")


def test_a_push_that_brings_no_migration_takes_none(world: DataWorld) -> None:
    world.push("one")
    world.push("one", env={"COLOUR": "red"})
    assert restore_points.all_points(world.app) == []
    assert told(world, "point") == "none: no migration that the live release lacks"


def test_a_first_push_and_one_without_migrations_take_none(world: DataWorld) -> None:
    world.push("one", commands={"migrate": None})
    assert "point" not in [step for step, _ in world.events()]
    world.push("two", commands={"migrate": None})
    assert restore_points.all_points(world.app) == []


def test_where_the_disk_has_no_room_the_point_is_a_position_in_the_replica(
    world: DataWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_points, "RESERVE", 1 << 60)
    first, _ = pushed(world)
    (point,) = restore_points.all_points(world.app)
    assert point["files"] == {}
    assert point["position"] == {"txid": 7}
    assert "position in the replica only" in told(world, "point")
    of_s3(world, "of S3")
    assert world.rollback_with_data()["release"] == first
    assert world.rows() == ["of S3"]


def test_without_room_and_without_a_backup_the_push_is_stopped_before_it_migrates(
    world: DataWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_points, "RESERVE", 1 << 60)
    settings = json.loads(world.app.database.read_text())
    world.app.database.write_text(json.dumps({**settings, "backup": None}))
    world.push("one")
    result = world.push("two")
    assert result["code"] == REVERTED
    assert "no space for a copy" in result["error"]["what"]
    assert len(world.migrated) == 1


def test_points_go_with_the_releases_they_were_taken_for(world: DataWorld) -> None:
    for number in range(5):
        world.push(f"v{number}", retain_releases=2)
        world.drain_all()
    world.push("bad", "500", retain_releases=2)
    kept = {point["for"] for point in restore_points.all_points(world.app)}
    assert kept <= set(world.states())
    assert len(kept) == 3  # the live one, the one before, and the newest failure
    (world.app.points / "20260101T000000000Z-aaaaaa").mkdir()  # one that was cut short
    world.push("last", "500", retain_releases=2)
    assert not (world.app.points / "20260101T000000000Z-aaaaaa").exists()


# ---------------------------------------------------------------------------------------------- rollback with data


def test_a_rollback_with_data_brings_back_code_and_data_of_before_the_push(world: DataWorld) -> None:
    first, second = pushed(world)
    result = world.rollback_with_data()
    assert result["release"] == first
    assert world.app.live() == first
    assert world.rows() == ["before", "between"]
    assert world.running == {world.app.unit(first), world.app.stream_unit}
    assert world.states() == {first: "superseded", second: "superseded"} | {first: "live"}
    assert world.replica.epoch(world.app) == f"{FIRST}+"
    assert [step["name"] for step in result["steps"]] == [
        "fetch", "stop", "data", "start", "health", "flip", "verify", "live",
    ]  # fmt: skip


def test_what_a_rollback_with_data_gives_up_is_told_before_and_kept_after(world: DataWorld) -> None:
    first, second = pushed(world)
    asked = begin.plan_rollback(world.app, None, world.host)
    assert asked["release"] == first
    assert asked["gives_up"]["tables"]["shop.db"]["items"] == [2, 2]
    assert 0 <= asked["gives_up"]["seconds"] < 60
    assert world.app.live() == second
    kept = Path(world.rollback_with_data()["kept"]["aside"])
    assert world.rows(kept / "old/shop.db") == ["between", "after"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert str(kept) in told(world, "data")


def test_rows_that_were_only_in_the_log_go_aside_with_their_database(world: DataWorld) -> None:
    pushed(world)
    world.leave_in_log("in the log")
    kept = Path(world.rollback_with_data()["kept"]["aside"])
    assert world.rows(kept / "old/shop.db") == ["between", "after", "in the log"]
    assert (kept / "old/.shop.db-litestream/ltx").is_file()
    assert not file_swap.sidecar_paths(world.database)[-1].exists()


def test_the_database_keeps_its_owner_and_mode(world: DataWorld) -> None:
    pushed(world)
    world.database.chmod(0o640)
    world.rollback_with_data()
    assert stat.S_IMODE(world.database.stat().st_mode) == 0o640


def test_every_instance_stops_before_the_data_changes_one_that_drains_too(world: DataWorld) -> None:
    world.push("one", drain_timeout=300)
    world.push("two", drain_timeout=300)
    assert len([unit for unit in world.running if "@" in unit]) == 2
    world.rollback_with_data()
    units = [unit for unit in world.running if "@" in unit]
    assert units == [world.app.unit(world.app.live() or "")]


@pytest.mark.parametrize("how", ["500", "crashes"])
def test_a_release_that_is_not_healthy_on_the_old_data_is_undone_with_the_data(world: DataWorld, how: str) -> None:
    first, second = pushed(world)
    world.leave_in_log("in the log")
    world.sick[first] = how
    result = world.rollback_with_data()
    assert result["code"] == REVERTED
    assert world.app.live() == second
    assert world.rows() == ["between", "after", "in the log"]
    assert world.running == {world.app.unit(second), world.app.stream_unit}
    assert world.replica.epoch(world.app) == FIRST
    assert not list(world.app.aside.iterdir())


def test_a_process_that_has_the_database_open_stops_the_exchange(
    world: DataWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = pushed(world)
    monkeypatch.setattr(file_swap, "openers", lambda database: ["77 (sqlite3)"])
    result = world.rollback_with_data()
    assert "77 (sqlite3) still has the database open" in result["error"]["what"]
    assert result["code"] == REVERTED
    assert world.rows() == ["between", "after"]
    assert world.running == {world.app.unit(second), world.app.stream_unit}


def test_who_has_a_database_open_is_found_by_the_file_not_its_name(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "a.db"
    database = Database("a.db", path)
    path.write_text("")
    (tmp_path / "other").symlink_to(path)
    code = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, str(tmp_path / "other")]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdout
        assert running.stdout.readline() == "open\n"
        assert [each.split()[0] for each in file_swap.openers(database)] == [str(running.pid)]
        running.communicate()
    assert file_swap.openers(database) == []


def test_with_s3_away_the_rollback_goes_on_and_says_so(world: DataWorld) -> None:
    first, _ = pushed(world)
    world.replica.away = True
    assert world.rollback_with_data()["release"] == first
    assert ("data", "note") in world.events()
    assert world.rows() == ["before", "between"]


def test_a_copy_that_the_disk_has_changed_is_not_brought_back(world: DataWorld) -> None:
    pushed(world)
    (point,) = restore_points.all_points(world.app)
    with closing(sqlite3.connect(world.app.points / point["id"] / "shop.db")) as connection:
        connection.execute("DELETE FROM items")
        connection.commit()
    result = world.rollback_with_data()
    assert "not what was written" in result["error"]["what"]
    assert world.rows() == ["between", "after"]
    assert ("stop", "begin") not in world.events()


def test_the_data_goes_back_to_no_other_release_than_the_points(world: DataWorld) -> None:
    first, second = pushed(world)
    world.migration = ""
    third = world.push("three")["release"]
    world.drain_all()
    with pytest.raises(HostError, match=f"can only go back to {second}") as caught:
        world.rollback_with_data(first)
    assert caught.value.code == USAGE
    assert world.app.live() == third
    assert world.rollback_with_data()["release"] == second
    assert world.rollback_with_data()["release"] == first
    assert world.rows() == ["before", "between"]


def test_without_a_point_there_is_no_rollback_with_data(world: DataWorld) -> None:
    world.push("one")
    world.push("one", env={"COLOUR": "red"})
    with pytest.raises(HostError, match="no restore point was taken") as caught:
        world.rollback_with_data()
    assert caught.value.code == FAILED


def test_what_was_agreed_to_must_still_be_so(world: DataWorld) -> None:
    pushed(world)
    with pytest.raises(HostError, match="another release went live meanwhile"):
        begin.rollback_with_data(world.app, None, "20260101T000000000Z-aaaaaa", "ann", "198.51.100.9", 0, world.host)


# ---------------------------------------------------------------------------------------------- rollback without data


def test_a_rollback_of_the_code_alone_tells_that_the_database_is_ahead(world: DataWorld) -> None:
    first = world.push("one")["release"]
    world.push("two")
    assert world.rollback()["release"] == first
    events = (journal.every(world.app)[-1].directory / "events.jsonl").read_text()
    assert "newer than the code by 20260101000001_two: they only add" in events


def test_a_rollback_of_the_code_alone_over_a_migration_that_takes_away_needs_force(world: DataWorld) -> None:
    first = world.push("one")["release"]
    world.code = 'execute "DELETE FROM items"'
    second = world.push("two")["release"]
    with pytest.raises(HostError, match="20260101000001_two") as caught:
        world.rollback()
    assert caught.value.code == FAILED
    assert "deploy rollback --with-data" in caught.value.fix
    assert world.app.live() == second
    begin.rollback(world.app, None, "ann", "", 0, world.host, force=True)
    assert world.app.live() == first


# ---------------------------------------------------------------------------------------------- restore in place


def of_s3(world: DataWorld, *rows: str) -> None:
    """What the replica would restore."""
    world.replica.kept = world.root / "s3.db"
    world.execute("CREATE TABLE items(n); CREATE TABLE boots(unit)", world.replica.kept)
    world.execute("".join(f"INSERT INTO items VALUES ('{row}');" for row in rows), world.replica.kept)


def test_a_restore_in_place_exchanges_the_data_under_the_live_release(world: DataWorld) -> None:
    _, second = pushed(world)
    of_s3(world, "then")
    result = world.restore(at=1500.0)
    assert result["result"] == "live"
    assert world.app.live() == second
    assert world.rows() == ["then"]
    assert world.running == {world.app.unit(second), world.app.stream_unit}
    assert world.states()[second] == "live"
    assert journal.draining(world.app) == []
    assert world.rows(Path(result["kept"]["aside"]) / "old/shop.db") == ["between", "after"]
    assert [step["name"] for step in result["steps"]] == ["fetch", "stop", "data", "start", "health", "flip", "verify"]
    assert audit.read(world.app, 1)[0]["verb"] == "restore"


def test_the_restored_instance_gets_no_request_before_it_is_healthy(world: DataWorld) -> None:
    _, second = pushed(world)
    before = (world.app.record(second) / "port").read_text()
    of_s3(world, "then")
    world.sick[second] = "500"
    assert world.restore(at=1500.0)["code"] == PERSON  # the old one is as sick here, so its undo says so
    assert (world.app.record(second) / "port").read_text() == before
    assert (world.app.record(second) / "instance.env").read_text() == f'PORT="{before}"\n'
    assert not (world.app.record(second) / "port.next").exists()
    world.sick.clear()
    world.restore(at=1500.0)
    now = (world.app.record(second) / "port").read_text()
    assert now != before
    assert (world.app.record(second) / "instance.env").read_text() == f'PORT="{now}"\n'
    assert not (world.app.record(second) / "port.next").exists()


def test_a_restore_to_a_point_needs_no_s3(world: DataWorld) -> None:
    pushed(world)
    world.replica.away = True
    (point,) = restore_points.all_points(world.app)
    world.restore(point=point["id"])
    assert world.rows() == ["before", "between"]


def test_data_that_is_not_whole_never_takes_the_place_of_the_live_one(world: DataWorld) -> None:
    pushed(world)
    of_s3(world, *map(str, range(2000)))
    assert world.replica.kept
    data = bytearray(world.replica.kept.read_bytes())
    data[8192:12288] = bytes(4096)
    world.replica.kept.write_bytes(data)
    begin.load(world.app, world.replica.kept, "ann", "198.51.100.9", world.host)
    assert world.result
    assert "integrity check" in world.result["error"]["what"]
    assert world.rows() == ["between", "after"]
    assert ("stop", "begin") not in world.events()


def test_data_with_a_gap_in_the_numbered_rows_is_no_backup(world: DataWorld) -> None:
    pushed(world)
    of_s3(world, "then")
    table = "CREATE TABLE _homeport_canary(n INTEGER PRIMARY KEY, at REAL);"
    world.execute(table + "INSERT INTO _homeport_canary VALUES (1, 1), (2, 2), (5, 5)", world.replica.kept)
    result = world.restore(at=1500.0)
    assert "2 of hostctl's numbered rows are missing" in result["error"]["what"]


def test_a_time_that_cannot_be_restored_is_refused_with_the_range(world: DataWorld) -> None:
    world.push("one")
    for at in (999.0, time.time() + 60):
        with pytest.raises(HostError, match="1970-01-01 00:16:40 UTC to 1970-01-01 00:33:20 UTC") as caught:
            world.restore(at=at)
        assert caught.value.code == USAGE


def test_an_unknown_point_and_a_host_that_was_superseded_are_refused(world: DataWorld) -> None:
    world.push("one")
    with pytest.raises(HostError, match="no restore point"):
        world.restore(point="20260101T000000000Z-aaaaaa")
    make_directory(world.app.backup, 0o700)
    write_json(world.app.backup / "superseded.json", {"why": "a takeover"})
    with pytest.raises(HostError, match="this host is superseded: a takeover"):
        world.restore(at=1500.0)


def test_a_rehearsal_tells_what_would_come_back_and_leaves_no_trace(world: DataWorld) -> None:
    pushed(world)
    of_s3(world, "then")
    found = restore.rehearse(world.app, restore.source(world.app, 1500.0, None, world.host), world.host)
    assert found["databases"]["shop.db"]["tables"]["items"] == 1
    assert found["gives_up"]["tables"]["shop.db"]["items"] == [2, 1]
    assert world.rows() == ["between", "after"]
    assert not (world.app.state / "scratch").exists()
    assert journal.every(world.app)[-1].content["verb"] == "push"


def test_a_copy_is_sent_with_its_size_and_digest_before_it(world: DataWorld, tmp_path: Path) -> None:
    pushed(world)
    of_s3(world, "then")
    data = restore.source(world.app, 1500.0, None, world.host)
    out = tmp_path / "sent"
    with out.open("wb") as file:
        restore.send(world.app, data, None, world.host, file)
    head, _, body = out.read_bytes().partition(b"\n")
    fetched = tmp_path / "fetched.db"
    fetched.write_bytes(body)
    assert json.loads(head)["bytes"] == len(body)
    assert json.loads(head)["sha256"] == file_digest(fetched)
    assert world.rows(fetched) == ["then"]


def test_a_loaded_file_takes_the_place_of_the_database_and_is_used_up(world: DataWorld) -> None:
    pushed(world)
    given = world.root / "given.db"
    world.execute("CREATE TABLE items(n); CREATE TABLE boots(unit); INSERT INTO items VALUES ('loaded')", given)
    begin.load(world.app, given, "ann", "198.51.100.9", world.host)
    assert world.rows() == ["loaded"]
    assert not given.exists()
    assert audit.read(world.app, 1)[0]["verb"] == "load"


def test_an_undo_that_cannot_bring_the_data_back_does_not_start_the_app_on_the_wrong_one(
    world: DataWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pushed(world)
    world.sick[first] = "500"

    def refuse(aside: Path) -> None:
        raise OSError("the disk is broken")

    monkeypatch.setattr(file_swap, "swap_back", refuse)
    result = world.rollback_with_data()
    assert result["code"] == PERSON
    assert "the disk is broken" in result["error"]["what"]
    assert world.app.unit(second) not in world.running


# ---------------------------------------------------------------------------------------------- files


def test_an_exchange_works_between_file_systems(
    world: DataWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import errno

    pushed(world)
    world.leave_in_log("in the log")
    rename, data = os.rename, world.app.data.stat().st_ino

    def refuse(old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        inside = [handle is not None and os.fstat(handle).st_ino == data for handle in (src_dir_fd, dst_dir_fd)]
        if inside[0] != inside[1]:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", refuse)
    kept = Path(world.rollback_with_data()["kept"]["aside"])
    assert world.rows() == ["before", "between"]
    assert world.rows(kept / "old/shop.db") == ["between", "after", "in the log"]
    assert (kept / "old/.shop.db-litestream/ltx").read_text() == "what Litestream remembers"


# ---------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    "words",
    [
        ["restore", "--at", "-1"],
        ["restore", "--at", "now"],
        ["restore", "--point", "../../etc"],
        ["restore", "--fil"],
        ["rollback", "--point", "x"],
        ["points", "more"],
    ],
)
def test_words_that_are_not_meant_are_refused(words: list[str]) -> None:
    with pytest.raises(HostError) as caught:
        cli.parse(words[0], words[1:])
    assert caught.value.code == USAGE
