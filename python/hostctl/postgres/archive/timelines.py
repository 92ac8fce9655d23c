"""Which timeline of an epoch counted when, and which base backup leads to an instant of it.

A restore in place is a new timeline in the same archive. One that was undone leaves a timeline that never counted, with
WAL and even base backups of its own in the archive. So what counted is written down, on the host and in the bucket, and
a restore names its base backup and its timeline; "the latest" may be anybody's.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from hostctl.backup import epochs, s3, settings
from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory, read_json, write_json
from hostctl.core.lock import MOMENT, Flock
from hostctl.core.paths import App
from hostctl.postgres.server import cluster


class Span(NamedTuple):
    """A timeline that counts from `since` on (seconds since the epoch) until the next span.

    It left `parent` at the position `fork` (bytes of WAL), which holds the data of the instant `at`; None: not known.
    """

    timeline: int
    since: float
    parent: int | None = None
    fork: int = 0
    at: float | None = None


class Gap(NamedTuple):
    """WAL that was dropped because it could not be archived. Nothing between `since` and `until` can be restored;
    `until` is when the base backup that heals it was finished, None before that. Seconds since the epoch.
    """

    since: float
    until: float | None = None


class Line(NamedTuple):
    """What is known of one epoch's timelines. `histories`: PostgreSQL's own history file of each timeline ever made;
    `system`: which cluster it is, by its identifier: a newer major version is another one, with timelines of its own.
    """

    spans: tuple[Span, ...] = ()
    gaps: tuple[Gap, ...] = ()
    histories: Mapping[int, str] = {}
    system: str = ""


class Base(NamedTuple):
    """A base backup. Times in seconds since the epoch, positions in bytes of WAL; sizes in bytes."""

    label: str
    kind: str
    begun: float
    ended: float
    timeline: int
    start: int
    stop: int
    size: int = 0
    stored: int = 0


class Range(NamedTuple):
    """Instants between which any can be restored."""

    first: float
    last: float


# ---------------------------------------------------------------------------------------------- pure


def parse_lsn(text: str) -> int:
    """A position of WAL ("0/3000148") as a number. Raises ValueError."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(number: int) -> str:
    """The opposite of `position`."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def format_instant(at: float) -> str:
    """An instant as PostgreSQL reads it, to the microsecond."""
    whole = math.floor(at)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(whole)) + f".{int((at - whole) * 1e6):06d}+00"


def span_at(spans: Sequence[Span], at: float | None) -> Span | None:
    """The span that counted at that time (None: counts now); None before all of them."""
    found = [span for span in spans if at is None or span.since <= at]
    return found[-1] if found else None


def ancestry(spans: Sequence[Span], timeline: int) -> dict[int, int | None]:
    """The timelines that lead to one, each with the position at which it was left; None for the last.

    Every span goes back to an earlier one: timelines are numbered as they are made.
    """
    known = {span.timeline: span for span in spans}
    found: dict[int, int | None] = {timeline: None}
    span = known.get(timeline)
    while span is not None and span.parent is not None and span.parent not in found:
        found[span.parent] = span.fork
        span = known.get(span.parent)
    return found


def leads_along(base: Base, way: Mapping[int, int | None]) -> bool:
    """Whether a base backup was whole before its timeline was left for the next one of the way."""
    if base.timeline not in way:
        return False
    left = way[base.timeline]
    return left is None or base.stop <= left


def choose_base(
    bases: Iterable[Base], way: Mapping[int, int | None], at: float | None, lsn: int | None = None
) -> Base | None:
    """The base backup to begin with: the newest that leads along `way` to an instant, or a position; None without."""
    fit = [one for one in bases if leads_along(one, way) and (at is None or one.ended <= at)]
    return max(
        (one for one in fit if lsn is None or one.stop <= lsn), key=lambda one: (one.stop, one.ended), default=None
    )


def gap_before(gaps: Iterable[Gap], base: Base, at: float | None) -> Gap | None:
    """The gap between a base backup and an instant, over which no WAL leads; None without.

    `at` None is the newest: WAL leads as far as it goes.
    """
    if at is None:
        return None
    return next((gap for gap in gaps if base.ended <= gap.since < at), None)


def ranges(bases: Iterable[Base], line: Line, last: float) -> list[Range]:
    """What can be restored of an epoch, oldest first; `last` is its newest instant.

    Each stretch begins with the end of a base backup of a timeline that counted, and ends with a gap or a restore.
    """
    starts = sorted(one.ended for one in bases if any(one.timeline == span.timeline for span in line.spans))
    dropped = sorted(gap.since for gap in line.gaps)
    found: list[Range] = []
    for start in starts:
        end = next((gap for gap in dropped if gap >= start), last)
        if not found or start > found[-1].last:
            found.append(Range(start, max(start, end)))
    return found


def with_timeline(line: Line, timeline: int, history: str, now: float, at: float | None) -> Line:
    """The line once a timeline is live: cut back to it when it counted before, else with a span that goes on to it."""
    histories = {**line.histories, **({timeline: history} if history else {})}
    known = [number for number, span in enumerate(line.spans) if span.timeline == timeline]
    if known:
        return line._replace(spans=line.spans[: known[0] + 1], histories=histories)
    parent, fork = parent_of(history)
    return line._replace(spans=(*line.spans, Span(timeline, now, parent, fork, at)), histories=histories)


def merge(stored: Line, own: Line) -> Line:
    """What the bucket knows of an epoch, with what its own host, which had lost what it knew, has seen since."""
    spans = stored.spans
    for span in own.spans:
        known = [number for number, one in enumerate(spans) if one.timeline == span.timeline]
        spans = spans[: known[0] + 1] if known else (*spans, span)
    healed = {gap.since: gap for gap in sorted({*stored.gaps, *own.gaps}, key=lambda gap: gap.until or 0.0)}
    gaps = tuple(sorted(healed.values()))
    return Line(spans, gaps, {**stored.histories, **own.histories}, own.system or stored.system)


def parent_of(history: str) -> tuple[int | None, int]:
    """The timeline, and the position, that a history file says its timeline has left last."""
    found = re.findall(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", history, re.MULTILINE)
    return (int(found[-1][0]), parse_lsn(found[-1][1])) if found else (None, 0)


def to_json(line: Line) -> Json:
    """As it is kept on the host and in the bucket."""
    told: Json = {"spans": [one._asdict() for one in line.spans], "gaps": [one._asdict() for one in line.gaps]}
    histories = {str(number): text for number, text in line.histories.items()}
    return told | {"histories": histories, "system": line.system}


def from_json(told: Json) -> Line:
    """The opposite. Raises KeyError, TypeError or ValueError for anything else."""
    spans, gaps = (tuple(Span(**one) for one in told["spans"]), tuple(Gap(**one) for one in told["gaps"]))
    histories = {int(number): str(text) for number, text in told["histories"].items()}
    return Line(spans, gaps, histories, str(told["system"]))


# ---------------------------------------------------------------------------------------------- on the host


def load(app: App) -> Line:
    """What counted in this host's epoch; nothing for an epoch that has just begun."""
    found = _kept(app)
    return from_json(found) if found is not None else Line()


def _kept(app: App) -> Json | None:
    """What is written down of the epoch that is this host's now."""
    mine, found = epochs.local(app), read_json(app.backup / "timelines.json")
    return found if found is not None and mine is not None and found["epoch"] == mine.epoch else None


def change(app: App, change: Callable[[Line], Line]) -> None:
    """Change what is known, here, and in the bucket: later, by the watch, when that cannot be done now.

    The watch, the tail, a backup and a transition do so, each in a process of its own.
    """
    make_directory(app.backup, 0o700)
    with _alone(app):
        mine, before = epochs.local(app), _kept(app)
        line = from_json(before) if before is not None else Line()
        if mine is None or (new := change(line)) == line:
            return
        # without a file there may still be a past: of an epoch that was gone back to, or on a host that lost the file
        whole = before is not None and before.get("whole", True)
        _write(app, mine.epoch, new, published=False, whole=whole)
    with suppress(HostError):
        publish(app)


def _alone(app: App) -> Flock:
    """Nobody else reads what they change. Held for a moment, never while S3 is asked."""
    return Flock(app.backup / "timelines.lock", wait=MOMENT)


def publish(app: App) -> None:
    """See that the bucket has what this host knows, and this host what the bucket knew before. Raises HostError.

    One at a time, so that what is older never lands on what is newer; whoever comes meanwhile leaves it to the first.
    """
    found = _kept(app)
    if found is None or found["published"]:
        return
    with suppress(BlockingIOError), Flock(app.backup / "timelines.publish.lock"):
        while not _published(app):
            pass  # it was changed meanwhile


def _published(app: App) -> bool:
    """Put what is known into the bucket; whether that is still what is known. Raises HostError."""
    found = _whole(app)
    if found is None or found["published"]:
        return True
    store = epochs.bucket(app)
    store.put(_key(store, found["epoch"]), json.dumps(to_json(from_json(found))).encode())
    with _alone(app):
        if _kept(app) != found:
            return False
        _write(app, found["epoch"], from_json(found), published=True, whole=True)
    return True


def _whole(app: App) -> Json | None:
    """What is known, after what the bucket knew of it where that is missing here. Raises HostError."""
    found = _kept(app)
    if found is None or found.get("whole", True):
        return found
    stored = read_stored(epochs.bucket(app), found["epoch"])
    with _alone(app):
        now = _kept(app)
        if now is not None and now["epoch"] == found["epoch"]:
            _write(app, now["epoch"], merge(stored, from_json(now)), published=False, whole=True)
        return _kept(app)


def _write(app: App, epoch: str, line: Line, published: bool, whole: bool) -> None:
    """`whole`: the bucket knows nothing of the epoch that is missing here."""
    told: Json = {"epoch": epoch, "published": published, "whole": whole, **to_json(line)}
    write_json(app.backup / "timelines.json", told)


def read_stored(store: s3.Bucket, epoch: str) -> Line:
    """What counted in an epoch, as the bucket says. Raises HostError."""
    found = store.get(_key(store, epoch))
    if found is None:
        return Line()
    try:
        return from_json(json.loads(found[0]))
    except (KeyError, TypeError, ValueError, AttributeError):
        fix = "restore the object from the bucket's versions"
        raise HostError(f"{_key(store, epoch)} is not Homeport's", store.where, fix) from None


def _key(store: s3.Bucket, epoch: str) -> str:
    return f"{store.prefix}/{epoch}/TIMELINES"


def record_live(app: App, at: float | None = None) -> int | None:
    """Note which timeline is live now, and which instant of the one before it goes on from; returns it.

    None without a backup. To be called when the server runs, after its data was exchanged, either way. Idempotent.
    """
    if settings.configured(app) is None:
        return None
    timeline = live_timeline(app)
    system = cluster.control_data(cluster.live_server(app))["Database system identifier"]
    told, now = history(app, timeline), time.time()
    change(app, lambda line: with_timeline(line, timeline, told, now, at)._replace(system=system))
    return timeline


def live_timeline(app: App) -> int:
    """The timeline that the running server writes. Raises HostError."""
    found = cluster.query(cluster.live_server(app), "SELECT pg_walfile_name(pg_current_wal_lsn())")
    return int(found[0][0][:8], 16)


def history(app: App, timeline: int) -> str:
    """The history file of a timeline of the live data; "" for the first, which has none."""
    file = app.cluster_data / "pg_wal" / f"{timeline:08X}.history"
    return file.read_text() if file.exists() else ""
