"""How far the copy on S3 is behind: the time up to which all writes are known to be there, and the oldest write that
may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from hostctl.backup.settings import Databases
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.sqlite import litestream


class Delay(NamedTuple):
    """Seconds since the epoch. `arrived`: all writes until then are on S3 (0: unknown); `since`: the oldest write that
    may be missing there (None: none is).
    """

    arrived: float
    since: float | None


def measure(app: App, dbs: Databases, watch: Json | None) -> Delay:
    """The delay as far as this host knows it; `watch` is the monitor's last result. Raises HostError without
    Litestream.

    Litestream knows best, but only since its start: before it has reached S3 once it knows nothing.
    """
    known = float((watch or {}).get("arrived") or 0.0)
    present = [one for one in dbs.databases if one.path.exists()]
    positions = [litestream.position(app, one.name) for one in present]
    synced = [one.synced for one in positions if one.synced is not None]
    if len(synced) == len(positions):
        return Delay(max(known, min(synced, default=0.0)), _oldest(one.behind_since for one in positions))
    carried = (watch or {}).get("since")
    return Delay(
        known, carried or _oldest(litestream.oldest_pending(one.path, known) for one in present) or known or None
    )


def _oldest(times: Iterable[float | None]) -> float | None:
    return min((at for at in times if at is not None), default=None)


def lag(app: App, dbs: Databases, watch: Json | None) -> float | None:
    """Seconds since the oldest write that may not be on S3, without asking there; None when nobody knows."""
    now = time.time()
    try:
        since = measure(app, dbs, watch).since
    except HostError:
        return watch["lag"] + now - watch["at"] if watch and watch.get("lag") is not None else None
    return round(max(0.0, now - since), 3) if since is not None else 0.0
