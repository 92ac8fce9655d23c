"""Times as text, in UTC: the only place that formats them. A time is a number of seconds since the epoch."""

from __future__ import annotations

import time


def utc(seconds: float) -> str:
    """`2026-11-21 07:13:23 UTC`, in sentences."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def iso(seconds: float) -> str:
    """`2026-11-21T07:13:23Z`, in documents and as an argument."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def iso_milliseconds(seconds: float) -> str:
    """`2026-11-21T07:13:23.123Z`."""
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{micro // 1000:03d}Z", time.gmtime(whole))


def compact(seconds: float) -> str:
    """`20261121T071323Z`, in ids and names of files: sorts by age."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
