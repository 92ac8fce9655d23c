"""The instant that a restore brings back, and what is lost by it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from hostctl.common.documents import DataSource
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.journal.steps import Work


def target_time(data: DataSource) -> float:
    """The instant whose data comes back, in seconds since the epoch."""
    return float(data["newest"] if data["at"] is None else data["at"])


def estimated_loss(data: DataSource, tables: Json) -> Json:
    return {"since": target_time(data), "seconds": round(time.time() - target_time(data), 3), "tables": tables}


def compare_rows(now: Mapping[str, int], then: Mapping[str, int]) -> dict[str, list[int | None]]:
    """Rows of each table, now and then; None for one that was not there."""
    return {table: [now.get(table), then.get(table)] for table in sorted({*now, *then})}


def require_space(directory: Path, need: int) -> None:
    """Raises HostError unless so many bytes are free there."""
    free = shutil.disk_usage(directory).free
    if free < need:
        what = f"the disk is full: the data needs {need >> 20} MiB, {free >> 20} MiB are free"
        raise HostError(what, str(directory), "free some space on the host (df -h), and try again")


def requested(work: Work) -> DataSource:
    """Which data the transition brings back."""
    assert work.data is not None  # noqa: S101 - only such transitions have these steps
    return work.data


def broken_data_error(name: str, how: str) -> HostError:
    """The error of data that came back and is not whole."""
    fix = "deploy backup drill tells what is sound; restore another time, or a point (deploy backup list)"
    return HostError(f"the data that came back {how}", name, fix)


def record_kept_data(work: Work, stopped: float, place: str, tables: Json | None = None) -> str:
    """Write down what is given up: `stopped` is when the last write was made, `place` where everything is kept.

    Returns it as a line to show.
    """
    seconds = round(stopped - target_time(requested(work)), 3)
    work.journal.set(
        kept={"aside": place, "since": target_time(requested(work)), "seconds": seconds, "tables": tables or {}}
    )
    was = "what was there is" if "file" in requested(work) else f"{seconds:.0f} s of writes are given up, and"
    return f"{was} kept in {place}"
