"""The one printer of tables: plain text in columns, the same on a terminal and in a pipe, and nothing is cut."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], *, rule: bool = False) -> list[str]:
    """A line for each row, its cells below one another; with `rule`, dashes under the first row. No rows, no lines."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]] if rule else rows
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in ruled]
