"""Data of another time, from the real Litestream and a real S3 server: what comes back, and what counts afterwards."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from world import Host, Writer, rows, sound

from hostctl.backup import epochs as backup_epochs
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, file_digest
from hostctl.host.host import Host as RealHost
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.sqlite import restore as files
from hostctl.transitions.steps import restore

RELEASE = "20260101T000000Z-abcdef0"


@pytest.fixture
def host(new_host: Callable[..., Host]) -> Host:
    made = new_host()
    made.start()
    return made


def real(host: Host) -> RealHost:
    return host  # type: ignore[return-value]


def source(host: Host, at: float | None = None) -> Json:
    return restore.source(host.app, at, None, real(host))


def work(host: Host, data: Json) -> Work:
    """A restore in place that has come to its steps."""
    name = f"2026010{len(journal.ids(host.app)) + 1}T000000000Z-aaaaaa"
    entry = journal.create(host.app, name, "restore", RELEASE, "ann", "", settings={}, data=data)
    return Work(host.app, entry, real(host))


def exchange(host: Host, data: Json) -> Work:
    """Fetch, and put in the place of the live data."""
    doing = work(host, data)
    doing.journal.begin("fetch")
    files.fetch(doing)
    doing.journal.begin("data")
    files.replace(doing)
    return doing


def insert(host: Host, *numbers: int) -> None:
    """Rows of an app that starts, writes, and ends without checkpointing behind Litestream's back."""
    host.start()
    with closing(sqlite3.connect(host.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE IF NOT EXISTS rows(n INTEGER PRIMARY KEY, at REAL)")
        for number in numbers:
            connection.execute("INSERT INTO rows VALUES (?, ?)", (number, time.time()))
        host.catch_up()


def rest() -> float:
    """The next whole second that nothing is written in, a second after everything before it."""
    time.sleep(2.1 - time.time() % 1)
    at = float(int(time.time()))
    time.sleep(1.0)
    return at


def test_restored_to_a_second_the_rows_are_those_of_that_second(host: Host) -> None:
    insert(host, 1, 2, 3)
    first = rest()
    insert(host, 4, 5)
    second = rest()
    insert(host, 6)
    for at, wanted in ((first, [1, 2, 3]), (second, [1, 2, 3, 4, 5])):
        into = host.root / "into"
        files.restore_into(host.app, source(host, at), into, real(host))
        assert rows(into / "shop.db") == wanted


def test_of_a_database_that_is_always_written_to_no_row_before_the_second_is_missing(host: Host) -> None:
    writer = Writer(host.path)
    writer.reach(400)
    at = float(int(time.time()))
    writer.reach(500)
    writer.stop()
    host.catch_up()
    into = host.root / "into"
    files.restore_into(host.app, source(host, at), into, real(host))
    found = rows(into / "shop.db")
    with closing(sqlite3.connect(into / "shop.db")) as connection:
        (last,) = connection.execute("SELECT max(at) FROM rows").fetchone()
    assert found == list(range(1, len(found) + 1))
    assert sound(into / "shop.db")
    # an interval may be missing; S3 tells the second of an object, not the instant
    assert at - 0.5 < last < at + 1.0


def test_a_time_before_the_first_write_is_refused_with_what_can_be_restored(host: Host) -> None:
    insert(host, 1)
    with pytest.raises(HostError, match="outside what can be restored") as caught:
        source(host, time.time() - 3600)
    assert caught.value.code == USAGE


def test_the_data_of_another_time_streams_into_an_epoch_of_its_own(host: Host) -> None:
    insert(host, 1, 2)
    then = rest()
    insert(host, 3)
    before = backup_epochs.local(host.app)
    assert before
    exchange(host, source(host, then))
    now = backup_epochs.local(host.app)
    assert now
    assert (now.parent, now.published) == (before.epoch, True)
    insert(host, 4)
    assert rows(host.restored(now.epoch)) == [1, 2, 4]
    given_up = host.root / "given-up"
    files.restore_into(host.app, source(host, now.opened), given_up, real(host))
    assert rows(given_up / "shop.db") == [1, 2, 3]


def test_undone_the_old_data_streams_into_its_old_epoch_as_if_nothing_had_been(host: Host) -> None:
    insert(host, 1, 2)
    then = rest()
    insert(host, 3)
    before = backup_epochs.local(host.app)
    assert before
    doing = exchange(host, source(host, then))
    insert(host, 99)
    files.put_back(doing)
    files.put_back(doing)  # as after a crash in the middle of it
    assert backup_epochs.current(host.app, backup_epochs.bucket(host.app)) == before
    insert(host, 4)
    assert rows(host.restored(before.epoch)) == [1, 2, 3, 4]
    assert rows(host.path) == [1, 2, 3, 4]


def test_with_s3_away_the_data_is_exchanged_all_the_same_and_published_later(host: Host) -> None:
    insert(host, 1, 2)
    kept = host.app.points / "20260101T000000000Z-cccccc"
    kept.mkdir(parents=True)
    (kept / "shop.db").write_bytes(host.restored(backup_epochs.local(host.app).epoch).read_bytes())  # type: ignore[union-attr]
    told = {"bytes": 0, "sha256": file_digest(kept / "shop.db")}
    document = {"id": kept.name, "at": time.time(), "release": RELEASE, "for": RELEASE, "files": {"shop.db": told}}
    (kept / "point.json").write_text(json.dumps(document))
    insert(host, 3)
    host.store.stop()
    try:
        exchange(host, restore.source(host.app, None, kept.name, real(host)))
        assert rows(host.path) == [1, 2]
        mine = backup_epochs.local(host.app)
        assert mine
        assert not mine.published
    finally:
        host.store.start()
    # where Litestream did not end well without S3, the watch begins one more epoch in place of the unpublished one
    until(lambda: host.watch()["error"] is None and published(host))
    insert(host, 4)
    epochs = backup_epochs.chain(backup_epochs.bucket(host.app))
    assert epochs[0].epoch == backup_epochs.local(host.app).epoch  # type: ignore[union-attr]
    assert rows(host.restored(epochs[0].epoch)) == [1, 2, 4]


def published(host: Host) -> bool:
    mine = backup_epochs.local(host.app)
    return mine is not None and mine.published


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_copy_of_the_wrong_file_is_never_left_behind(host: Host) -> None:
    insert(host, 1)
    host.store.stop()
    try:
        doing = work(host, {"point": None, "at": time.time(), "newest": 0})
        with pytest.raises(HostError):
            files.fetch(doing)
        files.discard_fetched(doing)
    finally:
        host.store.start()
    assert not list(host.app.aside.glob("*"))
    assert not list(host.app.state.glob("fetched-*"))
