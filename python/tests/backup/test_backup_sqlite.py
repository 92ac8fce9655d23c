"""What hostctl does with SQLite files: above all, that it never checkpoints a live one."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from world import application, rows, sound

from hostctl.common.errors import HostError
from hostctl.sqlite.database import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database as an app that was killed leaves it: the last writes are in the log only."""
    found = tmp_path / "shop.db"
    files.create(found)
    script = "import sqlite3, sys, os; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
    script += "db.execute('PRAGMA wal_autocheckpoint=0'); db.execute('CREATE TABLE rows(n INTEGER PRIMARY KEY)');"
    script += "[db.execute('INSERT INTO rows VALUES (?)', (n,)) for n in range(1, 101)]; os._exit(0)"
    subprocess.run([sys.executable, "-c", script, str(found)], check=True)
    return found


def log(path: Path) -> tuple[bytes, bytes]:
    """The main file and the log: what a checkpoint changes."""
    return path.read_bytes(), Path(f"{path}-wal").read_bytes()


# ------------------------------------------------------------------------------- no checkpoint


def test_reading_a_database_that_nobody_has_open_leaves_its_log_as_it_was(path: Path) -> None:
    before = log(path)
    assert files.read_contents(path).tables["rows"] == 100
    assert files.integrity_faults(path) == []
    with files.hold(path):
        pass
    files.copy(path, path.with_name("copy.db"))
    assert log(path) == before


def test_writing_the_canary_as_the_only_one_leaves_the_main_file_as_it_was(path: Path) -> None:
    before = log(path)
    files.write_canary(path)
    after = log(path)
    assert after[0] == before[0]
    assert after[1].startswith(before[1])
    assert len(after[1]) > len(before[1])


def test_a_plain_connection_does_checkpoint_which_is_what_the_others_avoid(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT count(*) FROM rows").fetchone()
    assert not Path(f"{path}-wal").exists()


def test_a_held_database_keeps_its_log_whoever_checkpoints(path: Path) -> None:
    size = Path(f"{path}-wal").stat().st_size
    with application(path) as app, files.hold(path):
        app.execute("INSERT INTO rows VALUES (1000)")
        app.execute("PRAGMA busy_timeout=0")
        busy, _, _ = app.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        assert busy
        app.execute("INSERT INTO rows VALUES (1001)")
        assert Path(f"{path}-wal").stat().st_size > size


# ------------------------------------------------------------------------------- canary


def test_canary_rows_are_numbered_without_a_gap_and_the_oldest_are_forgotten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "KEPT", 3)
    assert [files.write_canary(path) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert files.read_contents(path).canary == (3, 5, 3)


def test_a_canary_begins_in_a_database_that_never_had_one(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with application(path) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("CREATE TABLE rows(n)")
        assert files.read_contents(path).canary == (0, 0, 0)
        assert files.write_canary(path) == 1
    assert files.read_contents(path).canary == (1, 1, 1)


def test_a_database_that_stays_locked_is_said_to_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BUSY", 0.05)
    with application(path) as app:
        app.execute("BEGIN IMMEDIATE")
        with pytest.raises(HostError, match="stayed locked"):
            files.write_canary(path)
        app.execute("ROLLBACK")


# ------------------------------------------------------------------------------- look


def test_a_look_leaves_out_what_is_sqlites_and_litestreams(path: Path) -> None:
    with application(path) as app:
        app.execute("CREATE TABLE schema_migrations(version INTEGER PRIMARY KEY, inserted_at TEXT)")
        app.executemany("INSERT INTO schema_migrations(version) VALUES (?)", [(20260102,), (20260101,)])
        app.execute('CREATE TABLE "odd ""name"(x TEXT UNIQUE)')
        app.execute("CREATE TABLE counted(n INTEGER PRIMARY KEY AUTOINCREMENT)")
        before = files.read_contents(path)
        app.execute("CREATE TABLE _litestream_seq(id INTEGER PRIMARY KEY, seq INTEGER)")
        assert files.read_contents(path) == before
        app.execute("ALTER TABLE counted ADD COLUMN more")
        assert files.read_contents(path).schema != before.schema
    assert before.tables == {files.CANARY: 0, 'odd "name': 0, "counted": 0, "rows": 100, "schema_migrations": 2}
    assert before.versions == (20260101, 20260102)


def test_a_full_text_index_is_counted_by_the_tables_below_it(path: Path) -> None:
    with application(path) as app:
        app.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
        app.execute("INSERT INTO words VALUES ('hello')")
        tables = files.read_contents(path).tables
    assert "words" not in tables
    assert tables["words_content"] == 1


def test_damage_is_found(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    files.copy(path, copy)
    with copy.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 100)
    assert files.integrity_faults(copy) != []


@pytest.mark.parametrize("content", [b"", b"this is no database at all" * 400])
def test_what_is_no_database_is_damage_or_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none.db"
    path.write_bytes(content)
    assert bool(files.integrity_faults(path)) == bool(content)


# ------------------------------------------------------------------------------- files


def test_a_copy_has_what_is_in_the_log_too_and_is_its_users_alone(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    files.copy(path, copy)
    assert rows(copy) == list(range(1, 101))
    assert sound(copy)
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_copy_under_writes_is_of_one_moment(path: Path, tmp_path: Path) -> None:
    with application(path) as app:
        app.execute("BEGIN")
        app.execute("INSERT INTO rows VALUES (500)")
        files.copy(path, tmp_path / "copy.db")
        app.execute("COMMIT")
    assert rows(tmp_path / "copy.db") == list(range(1, 101))


def test_nothing_is_ever_written_over_an_existing_file(path: Path, tmp_path: Path) -> None:
    before, other = path.read_bytes(), tmp_path / "other.db"
    files.create(other)
    for act in (
        lambda: files.create(path),
        lambda: files.copy(other, path),
        lambda: files.place(other, path),
    ):
        with pytest.raises(HostError, match="there is a database already"):
            act()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.endswith(".new")) == []


def test_a_new_database_is_empty_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    files.create(path)
    assert files.read_contents(path).tables == {files.CANARY: 0}
    with application(path) as app:
        assert app.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["shop.db", "shop.db-wal"])
def test_no_link_that_the_app_made_is_followed(tmp_path: Path, path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(tmp_path / name, elsewhere)
    (tmp_path / name).symlink_to(elsewhere)
    with pytest.raises(HostError, match="symbolic link"):
        files.write_canary(path)


def test_a_database_that_is_not_there_is_never_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="there is no database"):
        files.connect(tmp_path / "none.db", write=True)
    assert not list(tmp_path.iterdir())
