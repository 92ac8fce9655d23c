"""Copies of the live database that are taken away, and files that are to replace it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import time
from pathlib import Path

import pytest

from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.lock import Flock
from hostctl.core.paths import App, Layout
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.sqlite.database import files
from hostctl.transitions import begin
from hostctl.verbs import db


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An app with one database of three rows, and no backup."""
    found = Layout(tmp_path).app("shop")
    for directory in (found.database.parent, found.data, found.state):
        directory.mkdir(parents=True)
    path = found.data / "shop.db"
    told = {
        "user": "shop",
        "litestream": "/none",
        "databases": [{"name": "shop.db", "path": str(path)}],
        "backup": None,
    }
    found.database.write_text(json.dumps(told))
    files.create(path)
    with files.writing(path) as connection:
        connection.execute("CREATE TABLE users(name)")
        connection.execute("INSERT INTO users VALUES ('ann'), ('bob'), (x'00ff')")
    return found


def dumped(app: App, sql: bool = False) -> bytes:
    """What arrives, checked against what was announced."""
    out = io.BytesIO()
    db.dump(app, None, sql, out)
    head, _, body = out.getvalue().partition(b"\n")
    assert json.loads(head) == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return body


def test_a_copy_is_whole_and_leaves_nothing(app: App, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    file.write_bytes(dumped(app))
    assert files.integrity_faults(file) == []
    assert files.read_contents(file).tables["users"] == 3
    assert [path.name for path in app.state.iterdir()] == ["dump.lock"]


def test_sql_text_makes_the_same_rows(app: App) -> None:
    made = sqlite3.connect(":memory:")
    made.executescript(dumped(app, sql=True).decode())
    assert made.execute("SELECT name FROM users ORDER BY rowid").fetchall() == [("ann",), ("bob",), (b"\x00\xff",)]
    made.close()


def test_a_second_copy_at_once_is_refused_and_does_no_harm_to_the_first(app: App) -> None:
    (app.state / "dump").mkdir()
    (app.state / "dump/copy.db").write_text("the first one's")
    with Flock(app.state / "dump.lock"), pytest.raises(HostError) as refused:
        dumped(app)
    assert refused.value.code == LOCKED
    assert (app.state / "dump/copy.db").exists()
    assert dumped(app)


def test_no_room_is_told_before_anything_is_copied(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SPARE", 1 << 60)
    with pytest.raises(HostError, match="the disk is full: a copy needs"):
        dumped(app)


def test_a_database_of_another_name_is_not_dumped(app: App) -> None:
    with pytest.raises(HostError, match="no database 'other'"):
        db.dump(app, "other", False, io.BytesIO())


# ---------------------------------------------------------------------------------------------- load


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that a restore was begun with."""
    found: list[Path] = []

    def load(app: App, path: Path, who: str, origin: str, host: Host) -> Json:
        found.append(path)
        return {"transition": "t1"}

    monkeypatch.setattr(begin, "load", load)
    return found


def load(app: App, data: bytes, monkeypatch: pytest.MonkeyPatch, sent: bytes | None = None) -> Json:
    monkeypatch.setattr("sys.stdin", Stdin(data if sent is None else sent))
    return db.load(app, len(data), hashlib.sha256(data).hexdigest(), "ann", "laptop", Host())


def test_a_sound_file_is_handed_over_and_waits_for_the_transition(
    app: App, handed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dumped(app)
    assert load(app, data, monkeypatch) == {"transition": "t1"}
    assert handed[0].read_bytes() == data
    assert handed[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["cut short", "changed", "no database", "damaged"])
def test_what_is_not_sound_is_refused_and_not_kept(
    app: App, handed: list[Path], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    data = dumped(app)
    wrong = {
        "cut short": (data, data[:-1]),
        "changed": (data, b"x" + data[1:]),
        "no database": (b"hello", None),
        "damaged": (data[:4096] + bytes(4096) + data[8192:], None),
    }
    with pytest.raises(HostError, match=r"received file is incomplete|no sound SQLite database"):
        load(app, wrong[how][0], monkeypatch, wrong[how][1])
    assert handed == []
    assert not list(app.state.glob("load*.db"))
    assert not (app.state / "load").exists()


def test_a_restore_that_does_not_begin_leaves_no_file(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Json:
        raise HostError("nothing is live", "", "", USAGE)

    monkeypatch.setattr(begin, "load", refuse)
    with pytest.raises(HostError, match="nothing is live"):
        load(app, dumped(app), monkeypatch)
    assert not list(app.state.glob("load*.db"))


def test_what_nobody_came_for_is_removed_after_a_day(
    app: App, handed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young = app.state / "load-old.db", app.state / "load-young.db"
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 2 * db.LEFT,) * 2)
    load(app, dumped(app), monkeypatch)
    assert (old.exists(), young.exists()) == (False, True)
