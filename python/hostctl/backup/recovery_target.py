"""The instant that a restore brings back, and the writes that it loses."""

from __future__ import annotations

import time
from collections.abc import Mapping

from hostctl.common.documents import DataSource
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.journal.engine import Work


def target_time(data: DataSource) -> float:
    """The instant to restore to, in seconds since the epoch."""
    return float(data["newest"] if data["at"] is None else data["at"])


def estimated_loss(data: DataSource, tables: Json) -> Json:
    """What a restore to this instant loses: `since`, `seconds`, and the rows of each table."""
    return {"since": target_time(data), "seconds": round(time.time() - target_time(data), 3), "tables": tables}


def compare_rows(now: Mapping[str, int], then: Mapping[str, int]) -> dict[str, list[int | None]]:
    """The rows of each table now and then; None for a table that did not exist."""
    return {table: [now.get(table), then.get(table)] for table in sorted({*now, *then})}


def requested(work: Work) -> DataSource:
    """The source of the data that the transition restores."""
    assert work.data is not None  # noqa: S101 - only such transitions have these steps
    return work.data


def broken_data_error(name: str, how: str) -> HostError:
    """The error for restored data that is damaged."""
    fix = "restore another time or a restore point (deploy backup list); deploy backup drill checks the backup"
    return HostError(f"the restored data {how}", name, fix)


def record_kept_data(work: Work, stopped: float, place: str, tables: Json | None = None) -> str:
    """Write the replaced data into the journal: `stopped` is the time of the last write, `place` where it is kept.

    Returns a line to show.
    """
    seconds = round(stopped - target_time(requested(work)), 3)
    work.journal.set(
        kept={"aside": place, "since": target_time(requested(work)), "seconds": seconds, "tables": tables or {}}
    )
    was = "the replaced data is" if "file" in requested(work) else f"{seconds:.0f} s of writes are lost, but"
    return f"{was} kept in {place}"
