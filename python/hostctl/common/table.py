"""Prints tables: plain text in columns, the same on a terminal and in a pipe. No cell is cut."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], *, rule: bool = False) -> list[str]:
    """One line for each row, with aligned cells; with `rule`, dashes under the first row."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]] if rule else rows
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in ruled]
