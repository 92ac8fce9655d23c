"""Compares a restored database with the live one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """The rows of a table up to `upto`, and a digest of their content.

    `upto` is from before the restore, so that newer rows do not count: the newest rowid (SQLite), or the transaction
    below which all had ended (PostgreSQL). It is None for a table without rowids, which is read whole.
    """

    rows: int
    digest: str
    upto: int | None


class Canary(NamedTuple):
    """hostctl's numbered rows: the first, the last, and how many there are. All 0 without any."""

    first: int
    last: int
    rows: int

    @property
    def missing(self) -> int:
        """How many numbers between the first and the last are missing."""
        return self.last - self.first + 1 - self.rows if self.rows else 0


class DatabaseState(NamedTuple):
    """The content of a database at one moment. `versions` are those of schema_migrations; `at` is when the last
    numbered row was written, in seconds since the epoch.
    """

    tables: Mapping[str, Table]
    schema: str
    versions: tuple[int, ...]
    canary: Canary
    at: float = 0.0


def compare(before: DatabaseState, restored: DatabaseState, after: DatabaseState) -> list[str]:
    """The differences that show a restored database to be wrong; empty when there are none.

    The live database was read before the restore began, its newest canary row written last, and read again after the
    restore. A good copy is of a moment in between. A table with equal content at both ends did not change, so the
    copy's must be equal. A table that changed may have lost rows, but must have at least as many as at the end; rows
    added later do not count (see Table). A schema that changed meanwhile may be either of the two.
    """
    found = _canary(before.canary, restored.canary, after.canary)
    if restored.schema not in (before.schema, after.schema):
        found.append("the schema is not that of the live database")
    if restored.versions not in (before.versions, after.versions):
        found.append("the recorded migrations are not those of the live database")
    return found + _tables(before.tables, restored.tables, after.tables)


def _canary(before: Canary, restored: Canary, after: Canary) -> list[str]:
    if not restored.rows:
        return ["hostctl's numbered rows are missing"]
    found = []
    if restored.missing:
        found.append(f"{restored.missing} of the numbered rows {restored.first} to {restored.last} are missing: a hole")
    if restored.last < before.last:
        found.append(
            f"the numbered rows end at {restored.last}, and live's {before.last} was written before the restore"
        )
    if restored.last > after.last:
        found.append(
            f"the numbered rows end at {restored.last}, and live's end at {after.last}: not this database's copy"
        )
    if not before.first <= restored.first <= max(before.first, after.first):
        found.append(f"the numbered rows begin at {restored.first}, and live's at {before.first}")
    return found


def _tables(before: Mapping[str, Table], restored: Mapping[str, Table], after: Mapping[str, Table]) -> list[str]:
    lasting = before.keys() & after.keys()
    found = [f"the table {name} is missing" for name in sorted(lasting - restored.keys())]
    found += [f"live has no table {name}" for name in sorted(restored.keys() - before.keys() - after.keys())]
    for name in sorted(lasting & restored.keys()):
        found += _rows(name, before[name], restored[name], after[name])
    return found


def _rows(name: str, before: Table, restored: Table, after: Table) -> list[str]:
    least, most = sorted((before.rows, after.rows))
    if not least <= restored.rows <= most:
        live = f"{least}" if least == most else f"between {least} and {most}"
        return [f"the table {name} has {restored.rows} rows, and live has {live}"]
    if before == after and restored != before:
        return [f"the table {name} has other content than live, where nothing was written meanwhile"]
    return []


def newest_sound(times: Sequence[float], good: Callable[[float], bool]) -> float | None:
    """The newest of `times` (newest first) for which `good` holds; None when it holds for none.

    Damage is at one time, and everything after it is built on it. So this goes back in growing strides and then
    bisects: about 2 log2 of the distance are tested, not all.
    """
    if not times:
        return None
    bad, here, last = -1, 0, len(times) - 1
    while not good(times[here]):
        if here == last:
            return None
        bad, here = here, min(2 * here + 1, last)
    while here - bad > 1:
        middle = (bad + here) // 2
        bad, here = (bad, middle) if good(times[middle]) else (middle, here)
    return times[here]
