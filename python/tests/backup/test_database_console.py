"""The console on the live database: what it answers, and what it never does to the database."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path

import pytest

from hostctl.common.errors import HostError
from hostctl.sqlite.database import files, sql_console
from hostctl.sqlite.database.sql_console import Console, format_table, printable, split_statements


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "shop.db"
    files.create(found)
    with files.writing(found) as connection:
        connection.execute("CREATE TABLE users(id INTEGER PRIMARY KEY, name)")
        connection.execute("INSERT INTO users(name) VALUES ('ann'), ('bob')")
    return found


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def piped(path: Path, text: str, write: bool = False) -> str:
    out = io.StringIO()
    with sql_console.open_live(path, write) as connection:
        Console(connection, io.StringIO(text), out).run("never seen")
    return out.getvalue()


@pytest.fixture
def typed(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a person types, line by line; an exception is what happens instead of a line."""
    lines: list[object] = []

    def line(prompt: str) -> str:
        if not lines:
            raise EOFError
        found = lines.pop(0)
        if isinstance(found, BaseException):
            raise found
        return str(found)

    monkeypatch.setattr("builtins.input", line)
    return lines


def shown(path: Path, write: bool = False) -> str:
    out = Terminal()
    with sql_console.open_live(path, write) as connection:
        Console(connection, Terminal(), out).run("hello")
    return out.getvalue()


def test_a_pipe_gets_rows_with_tabs_and_nothing_else(path: Path) -> None:
    assert piped(path, "SELECT id, name\nFROM users; SELECT NULL, x'00ff', 'a;b', 'tab\there'") == (
        "1\tann\n2\tbob\n\tX'00ff'\ta;b\ttab\\there\n"
    )


def test_a_pipes_first_mistake_ends_it(path: Path) -> None:
    with pytest.raises(HostError, match="no such table: nowhere"):
        piped(path, "SELECT 1;\nSELECT * FROM nowhere;\nSELECT 2;")


def test_a_person_gets_tables_and_goes_on_after_a_mistake(path: Path, typed: list[object]) -> None:
    typed += [
        "select name",
        "  from users",
        "  order by 1;",
        "selec 1;",
        ".tables",
        ".schema users",
        ".help",
        ".quit",
        "x",
    ]
    text = shown(path)
    assert "name\n----\nann\nbob\n2 rows\n" in text
    assert 'error: near "selec"' in text
    assert "users             table" in text
    assert "CREATE TABLE users(id" in text
    assert "Ctrl-D" in text
    assert typed == ["x"]


def test_ctrl_c_drops_what_was_begun(path: Path, typed: list[object]) -> None:
    typed += ["select 'dropped'", KeyboardInterrupt(), "select 'kept';"]
    text = shown(path)
    assert "kept" in text
    assert "dropped" not in text


def test_ctrl_c_stops_a_statement_that_runs(path: Path, typed: list[object]) -> None:
    typed += ["WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;", "select 'on';"]
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    text = shown(path)
    assert "error: interrupted\n" in text
    assert "on\n1 row\n" in text


def test_a_console_that_was_left_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_console, "IDLE", 1)
    monkeypatch.setattr("builtins.input", lambda prompt: signal.pause())
    assert "closed: nothing was typed" in shown(path)


def test_nothing_is_changed_unless_writing_was_asked_for(path: Path) -> None:
    with pytest.raises(HostError, match="readonly"):
        piped(path, "DELETE FROM users;")
    with pytest.raises(HostError, match="readonly"):
        piped(path, "PRAGMA query_only = 0;\nDELETE FROM users;")
    assert piped(path, "DELETE FROM users WHERE id = 1; SELECT count(*) FROM users;", write=True) == "1\n"


def test_what_was_not_committed_is_rolled_back_and_said(path: Path) -> None:
    assert "rolled back" in piped(path, "BEGIN; DELETE FROM users;", write=True)
    assert piped(path, "SELECT count(*) FROM users;") == "2\n"


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA wal_checkpoint", "PRAGMA main.wal_checkpoint(TRUNCATE)", "PRAGMA journal_mode = DELETE",
     "PRAGMA wal_autocheckpoint = 1000", "SELECT * FROM pragma_wal_checkpoint"],
)  # fmt: skip
def test_no_checkpoint_can_be_asked_for(path: Path, statement: str) -> None:
    with pytest.raises(HostError, match=r"SQLite: (not authorized|no such table)"):
        piped(path, statement, write=True)


@pytest.mark.parametrize("write", [False, True])
def test_the_log_is_as_it_was_when_the_console_is_closed_last(path: Path, write: bool) -> None:
    with files.writing(path) as connection:
        connection.execute("INSERT INTO users(name) VALUES ('carl')")
    before, log = path.read_bytes(), path.with_name("shop.db-wal")
    size = log.stat().st_size
    piped(path, "SELECT count(*) FROM users;" + ("INSERT INTO users(name) VALUES ('dora');" if write else ""), write)
    assert path.read_bytes() == before
    assert log.stat().st_size >= size > 0
    with files.reading(path) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (4 if write else 3,)


def test_statements_are_told_apart_where_they_end() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END;"
    text = f"SELECT 'a;b' -- c;\n;{trigger} SELECT /* ; */ 1"
    assert [each.strip() for each in split_statements(text)] == ["SELECT 'a;b' -- c;\n;", trigger, "SELECT /* ; */ 1"]


def test_what_would_move_the_cursor_is_written_out() -> None:
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert format_table(["n"], [["x" * 100]])[2] == "x" * 59 + "…"


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(HostError), sql_console.open_live(tmp_path / "none.db", True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    with pytest.raises(HostError, match="symbolic link"), sql_console.open_live(tmp_path / "link.db", False):
        pass
