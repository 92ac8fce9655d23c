"""What a drill finds wrong: pure decisions over what was seen of live and of the copy."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.backup.compare import Canary, DatabaseState, Table, compare, newest_sound
from hostctl.sqlite.database import files
from hostctl.sqlite.stream.drill import read_state, verify


def seen(
    canary: tuple[int, int, int] = (1, 5, 5), schema: str = "s", versions: tuple[int, ...] = (1,), **tables: Table
) -> DatabaseState:
    return DatabaseState(tables, schema, versions, Canary(*canary))


SAME = Table(3, "abc", 3)


def test_a_true_copy_is_not_found_fault_with() -> None:
    assert compare(seen(users=SAME), seen(users=SAME), seen(users=SAME)) == []


@pytest.mark.parametrize(
    ("restored", "says"),
    [
        (seen((1, 5, 3), users=SAME), "2 of the numbered rows 1 to 5 are missing: a hole"),
        (seen((1, 4, 4), users=SAME), "end at 4, and live's 5 was written before"),
        (seen((1, 9, 9), users=SAME), "end at 9, and live's end at 6"),
        (seen((3, 5, 3), users=SAME), "begin at 3, and live's at 1"),
        (seen((0, 0, 0), users=SAME), "hostctl's numbered rows are missing"),
        (seen(schema="other", users=SAME), "schema"),
        (seen(versions=(), users=SAME), "migrations"),
        (seen(), "the table users is missing"),
        (seen(users=SAME, ghosts=SAME), "live has no table ghosts"),
        (seen(users=Table(2, "ab", 3)), "users has 2 rows, and live has 3"),
        (seen(users=Table(3, "abd", 3)), "users has other content"),
    ],
)
def test_what_is_not_as_in_live_is_named(restored: DatabaseState, says: str) -> None:
    found = compare(seen(users=SAME), restored, seen((1, 6, 6), users=SAME))
    assert len(found) == 1
    assert says in found[0]


@pytest.mark.parametrize(("rows", "good"), [(4, False), (5, True), (6, True), (7, True), (8, False)])
def test_a_table_that_changed_has_as_many_rows_as_it_can_have_had_in_between(rows: int, good: bool) -> None:
    before, after = Table(7, "before", 9), Table(5, "after", 9)
    assert (compare(seen(t=before), seen(t=Table(rows, "then", 9)), seen(t=after)) == []) is good


def test_a_table_whose_rows_were_only_updated_must_have_them_all() -> None:
    before, after = Table(3, "one", 3), Table(3, "two", 3)
    assert compare(seen(t=before), seen(t=Table(3, "between", 3)), seen(t=after)) == []
    assert compare(seen(t=before), seen(t=Table(2, "between", 3)), seen(t=after)) == [
        "the table t has 2 rows, and live has 3"
    ]


def test_a_migration_while_it_was_restored_may_show_or_not() -> None:
    before, after = seen(schema="old", versions=(1,), a=SAME), seen(schema="new", versions=(1, 2), a=SAME, b=SAME)
    assert compare(before, seen(schema="old", versions=(1,), a=SAME), after) == []
    assert compare(before, seen(schema="new", versions=(1, 2), a=SAME, b=SAME), after) == []
    assert compare(before, seen(schema="new", versions=(1, 2), b=SAME), after) == ["the table a is missing"]


# ---------------------------------------------------------------------------------------------- real databases


@pytest.fixture
def live(tmp_path: Path) -> Path:
    path = tmp_path / "live.db"
    files.create(path)
    with files.writing(path) as connection:
        connection.execute("CREATE TABLE entries(id INTEGER PRIMARY KEY AUTOINCREMENT, body)")
        connection.execute("CREATE INDEX by_body ON entries(body)")
        connection.execute("CREATE TABLE pairs(a, b, PRIMARY KEY (a, b)) WITHOUT ROWID")
        connection.execute("CREATE TABLE empty(x)")
        connection.executemany("INSERT INTO entries(body) VALUES (?)", [(f"row {n}",) for n in range(100)])
        connection.execute("INSERT INTO pairs VALUES (1, 2)")
    files.write_canary(path)
    return path


Change = Callable[[sqlite3.Connection], object]


def change(path: Path, *statements: str) -> None:
    with files.writing(path) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    "meanwhile",
    [
        ["INSERT INTO entries(body) VALUES ('new')"],
        ["DELETE FROM entries WHERE id % 2"],
        ["UPDATE entries SET body = 'x'"],
        ["INSERT INTO empty VALUES (1)"],
        ["INSERT INTO pairs VALUES (3, 4)"],
        ["DELETE FROM entries", "INSERT INTO entries(body) VALUES ('new')"],
        ["DROP TABLE empty"],
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_a_copy_of_any_moment_between_the_two_looks_is_good(
    tmp_path: Path, live: Path, meanwhile: list[str], early: bool
) -> None:
    copy, before = tmp_path / "copy.db", read_state(live)
    if early:
        files.copy(live, copy)
    change(live, *meanwhile)
    if not early:
        files.copy(live, copy)
    assert compare(before, read_state(copy, before), read_state(live, before)) == []


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM entries WHERE id = 50", "UPDATE entries SET body = 'old' WHERE id = 50", "DELETE FROM pairs",
     "UPDATE entries SET body = x'726f7720' WHERE id = 1", "DROP TABLE empty", "DROP INDEX by_body"],
)  # fmt: skip
def test_a_row_that_is_missing_or_stale_is_found_while_others_are_written(
    tmp_path: Path, live: Path, damage: str
) -> None:
    copy, before = tmp_path / "copy.db", read_state(live)
    files.copy(live, copy)
    change(copy, damage)
    change(live, "INSERT INTO empty VALUES (1)")
    assert compare(before, read_state(copy, before), read_state(live, before)) != []


def test_a_hole_is_found_in_a_table_that_only_grows_however_fast(tmp_path: Path, live: Path) -> None:
    copy, before = tmp_path / "copy.db", read_state(live)
    grow = "INSERT INTO entries(body) SELECT body FROM entries"
    change(live, grow)
    files.copy(live, copy)
    change(live, grow, grow)
    change(copy, "DELETE FROM entries WHERE id = 7")
    (found,) = compare(before, read_state(copy, before), read_state(live, before))
    assert found == "the table entries has 99 rows, and live has 100"


def test_text_that_is_not_utf8_and_strange_names_are_compared_too(tmp_path: Path, live: Path) -> None:
    change(live, 'CREATE TABLE "a ""b"" c"("x y" TEXT)', """INSERT INTO "a ""b"" c" VALUES (CAST(x'ff00fe' AS TEXT))""")
    copy, before = tmp_path / "copy.db", read_state(live)
    files.copy(live, copy)
    assert 'a "b" c' in before.tables
    assert compare(before, read_state(copy, before), read_state(live, before)) == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT count(*) = 100 FROM entries", None),
        ("SELECT 1", None),
        ("SELECT count(*) = 99 FROM entries", "not true but 0"),
        ("SELECT NULL", "not true but None"),
        ("SELECT '0'", "not true but '0'"),
        ("SELECT 1 WHERE 0", "no row"),
        ("SELECT nowhere", "no such column"),
        ("DELETE FROM entries", "readonly|read-only|query_only"),
    ],
)
def test_the_apps_own_checks_must_be_true(live: Path, statement: str, says: str | None) -> None:
    found = verify(live, (statement,))
    assert (found == []) if says is None else re.search(says, found[0])


# ---------------------------------------------------------------------------------------------- the newest good one


@given(st.integers(0, 200), st.data())
def test_the_newest_time_that_can_be_restored_is_found_with_few_restores(count: int, data: st.DataObject) -> None:
    times = [float(count - n) for n in range(count)]
    damaged = data.draw(st.integers(0, count))
    asked: list[float] = []

    def good(at: float) -> bool:
        asked.append(at)
        return times.index(at) >= damaged

    found = newest_sound(times, good)
    assert found == (times[damaged] if damaged < count else None)
    assert len(asked) <= 2 * max(count, 1).bit_length() + 1
