"""The printer of tables: columns that line up, and nothing cut, coloured or wrapped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.table import columns

CELL = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=200)
ROWS = st.integers(1, 6).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=5))


def test_cells_line_up_and_lines_end_with_their_last_character() -> None:
    assert columns([("NAME", "STATE"), ("a-long-name", ""), ("b", "ok")]) == [
        "NAME         STATE",
        "a-long-name",
        "b            ok",
    ]


def test_a_rule_is_as_wide_as_its_columns() -> None:
    assert columns([("id", "name"), ("1", "somebody")], rule=True) == ["id  name", "--  --------", "1   somebody"]


def test_no_rows_are_no_lines() -> None:
    assert columns([]) == columns([], rule=True) == []


@given(ROWS)
def test_every_cell_is_whole_and_begins_where_its_column_begins(rows: list[list[str]]) -> None:
    lines = columns(rows)
    assert len(lines) == len(rows)
    starts = [
        sum(max(len(row[at]) for row in rows) + 2 for at in range(column))
        for column in range(len(rows[0]) if rows else 0)
    ]
    for row, line in zip(rows, lines, strict=True):
        assert [line[start : start + len(cell)] for start, cell in zip(starts, row, strict=True)] == row
