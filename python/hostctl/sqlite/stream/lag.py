"""Measures the lag: up to which time all writes are on S3, and which is the oldest write that may be missing there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from hostctl.backup.settings import Databases
from hostctl.common.documents import MonitorResult
from hostctl.common.errors import HostError
from hostctl.core.paths import App
from hostctl.sqlite.stream import litestream


class Delay(NamedTuple):
    """Seconds since the epoch. `arrived`: all writes until then are on S3 (0: unknown); `since`: the oldest write that
    may be missing there (None: none is).
    """

    arrived: float
    since: float | None


def measure(app: App, dbs: Databases, watch: MonitorResult | None) -> Delay:
    """The delay as far as this host knows it; `watch` is the monitor's last result. Raises HostError without
    Litestream.

    Litestream is exact, but only once it has reached S3 since its start; until then the monitor's result counts.
    """
    known = (watch and watch.get("arrived")) or 0.0
    present = dbs.existing()
    positions = [litestream.position(app, database.name) for database in present]
    synced = [position.synced for position in positions if position.synced is not None]
    if len(synced) == len(positions):
        return Delay(max(known, min(synced, default=0.0)), _oldest(position.behind_since for position in positions))
    carried = watch and watch.get("since")
    pending = _oldest(litestream.oldest_pending(database, known) for database in present)
    return Delay(known, carried or pending or known or None)


def _oldest(times: Iterable[float | None]) -> float | None:
    return min((at for at in times if at is not None), default=None)


def lag(app: App, dbs: Databases, watch: MonitorResult | None) -> float | None:
    """Seconds since the oldest write that may not be on S3, without a request to S3; None when unknown."""
    now = time.time()
    try:
        since = measure(app, dbs, watch).since
    except HostError:
        last = watch.get("lag") if watch else None
        return last + now - watch["at"] if watch and last is not None else None
    return round(max(0.0, now - since), 3) if since is not None else 0.0
