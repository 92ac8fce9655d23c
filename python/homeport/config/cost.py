"""Estimates the requests of a backup to the store, for which stores charge."""

from __future__ import annotations

from homeport.config.model import Config
from homeport.config.values import DAY_SECONDS, show_duration

MONTH_SECONDS = 365.25 / 12 * DAY_SECONDS
# Litestream merges its objects into levels, one object per level each time: 30 s, 5 min, 1 h
MERGE_SECONDS = (30.0, 300.0, 3600.0)
# how often hostctl writes a row of its own, also into a database without other writes
CANARY_SECONDS = 60.0


def summary(config: Config) -> str:
    """The estimate for one month, as one line of text; "" without a backup."""
    if not config.backed_up:
        return ""
    interval = config.backup.interval
    busy, quiet = (_count(requests_a_month(config, each)) for each in (interval, CANARY_SECONDS))
    return (
        f"backup.interval {show_duration(interval)} costs about {busy} PUT requests a month while writes never stop, "
        f"{quiet} at one write a minute"
    )


def requests_a_month(config: Config, write_interval: float) -> float:
    """The number of objects that are sent in a month if the database changes every `write_interval` seconds."""
    backup = config.backup
    more: tuple[float, ...] = MERGE_SECONDS if config.database.engine == "sqlite" else (backup.archive_timeout,)
    intervals = [max(write_interval, each) for each in (backup.interval, *more, backup.snapshot_interval)]
    return (1 + len(backup.extra)) * sum(MONTH_SECONDS / seconds for seconds in intervals)


def _count(number: float) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{round(number, -3):,.0f}"
