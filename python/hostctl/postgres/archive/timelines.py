"""The timelines of an epoch, when each was live, and the base backup from which an instant can be restored.

A restore in place begins a new timeline in the same archive. If it is undone, the archive keeps a timeline that never
was live, with WAL and even base backups. So the host and the bucket record which timeline was live when, and a restore
names its base backup and its timeline: "latest" could be one of those.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, NotRequired, TypedDict, cast

from hostctl.backup import epochs, s3, settings
from hostctl.common import documents
from hostctl.common.errors import HostError
from hostctl.common.files import make_directory, read_json, write_json
from hostctl.core.lock import MOMENT, Flock
from hostctl.core.paths import App
from hostctl.postgres.server import cluster


class Span(NamedTuple):
    """A timeline that was live from `since` (seconds since the epoch) until the next span.

    It branched from `parent` at the position `fork` (bytes of WAL), with the data of the instant `at`; None: unknown.
    """

    timeline: int
    since: float
    parent: int | None = None
    fork: int = 0
    at: float | None = None


class Gap(NamedTuple):
    """WAL that was dropped because it could not be archived. No instant between `since` and `until` can be restored.

    `until` is the end of the first full base backup after it; None before that. Seconds since the epoch.
    """

    since: float
    until: float | None = None


class Line(NamedTuple):
    """The record of one epoch. `histories` are the history files of PostgreSQL, by timeline; `system` is the identifier
    of the cluster: after an upgrade to a newer major version it is another one, with timelines of its own.
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
    """Every instant from `first` to `last` can be restored."""

    first: float
    last: float


class SpanDocument(TypedDict):
    """A `Span` as JSON."""

    timeline: int
    since: float
    parent: int | None
    fork: int
    at: float | None


class LineDocument(TypedDict):
    """The object TIMELINES of an epoch."""

    spans: list[SpanDocument]
    gaps: list[documents.Gap]
    histories: dict[str, str]
    system: str


class LocalRecord(LineDocument):
    """timelines.json on the host. `whole` is false while the bucket may have more of the epoch."""

    epoch: str
    published: bool
    whole: NotRequired[bool]


# ---------------------------------------------------------------------------------------------- pure


def parse_lsn(text: str) -> int:
    """A WAL position ("0/3000148") as a number. Raises ValueError."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(number: int) -> str:
    """The opposite of `parse_lsn`."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def format_instant(at: float) -> str:
    """An instant in PostgreSQL's format, with microseconds."""
    whole = math.floor(at)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(whole)) + f".{int((at - whole) * 1e6):06d}+00"


def span_at(spans: Sequence[Span], at: float | None) -> Span | None:
    """The span that was live at that time, by default the last; None before the first."""
    earlier = [span for span in spans if at is None or span.since <= at]
    return earlier[-1] if earlier else None


def ancestry(spans: Sequence[Span], timeline: int) -> dict[int, int | None]:
    """A timeline and its ancestors, each with the position of the branch to its descendant; None for the timeline."""
    by_number = {span.timeline: span for span in spans}
    path: dict[int, int | None] = {timeline: None}
    span = by_number.get(timeline)
    while span is not None and span.parent is not None and span.parent not in path:
        path[span.parent] = span.fork
        span = by_number.get(span.parent)
    return path


def leads_along(base: Base, path: Mapping[int, int | None]) -> bool:
    """Whether a base backup was complete before the next timeline of the path branched off."""
    if base.timeline not in path:
        return False
    branch = path[base.timeline]
    return branch is None or base.stop <= branch


def choose_base(
    bases: Iterable[Base], path: Mapping[int, int | None], at: float | None, lsn: int | None = None
) -> Base | None:
    """The newest base backup from which `path` leads to an instant or a position; None without one."""
    usable = [base for base in bases if leads_along(base, path) and (at is None or base.ended <= at)]
    usable = [base for base in usable if lsn is None or base.stop <= lsn]
    return max(usable, key=lambda base: (base.stop, base.ended), default=None)


def gap_before(gaps: Iterable[Gap], base: Base, at: float | None) -> Gap | None:
    """The gap in the WAL between a base backup and an instant; None without one.

    `at` None is the end of the WAL, before which there is no gap.
    """
    if at is None:
        return None
    return next((gap for gap in gaps if base.ended <= gap.since < at), None)


def ranges(bases: Iterable[Base], line: Line, last: float) -> list[Range]:
    """The ranges of an epoch that can be restored, oldest first; `last` is its newest instant.

    A range begins with the end of a base backup of a live timeline, and ends with a gap.
    """
    starts = sorted(base.ended for base in bases if any(base.timeline == span.timeline for span in line.spans))
    gaps = sorted(gap.since for gap in line.gaps)
    result: list[Range] = []
    for start in starts:
        end = next((gap for gap in gaps if gap >= start), last)
        if not result or start > result[-1].last:
            result.append(Range(start, max(start, end)))
    return result


def with_timeline(line: Line, timeline: int, history: str, now: float, at: float | None) -> Line:
    """The line after a timeline became live: with a new span, or cut after its span if it was live before."""
    histories = {**line.histories, **({timeline: history} if history else {})}
    positions = [number for number, span in enumerate(line.spans) if span.timeline == timeline]
    if positions:
        return line._replace(spans=line.spans[: positions[0] + 1], histories=histories)
    parent, fork = parent_of(history)
    return line._replace(spans=(*line.spans, Span(timeline, now, parent, fork, at)), histories=histories)


def merge(stored: Line, own: Line) -> Line:
    """The bucket's record of an epoch with what its host has recorded since it lost its own."""
    spans = stored.spans
    for span in own.spans:
        positions = [number for number, earlier in enumerate(spans) if earlier.timeline == span.timeline]
        spans = spans[: positions[0] + 1] if positions else (*spans, span)
    by_start = {gap.since: gap for gap in sorted({*stored.gaps, *own.gaps}, key=lambda gap: gap.until or 0.0)}
    gaps = tuple(sorted(by_start.values()))
    return Line(spans, gaps, {**stored.histories, **own.histories}, own.system or stored.system)


def parent_of(history: str) -> tuple[int | None, int]:
    """The parent and the position of the branch in a timeline's history file; (None, 0) for an empty one."""
    branches = re.findall(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", history, re.MULTILINE)
    return (int(branches[-1][0]), parse_lsn(branches[-1][1])) if branches else (None, 0)


def to_json(line: Line) -> LineDocument:
    """The line as JSON, for the host and the bucket."""
    return {
        "spans": [cast(SpanDocument, span._asdict()) for span in line.spans],
        "gaps": [cast(documents.Gap, gap._asdict()) for gap in line.gaps],
        "histories": {str(number): text for number, text in line.histories.items()},
        "system": line.system,
    }


def from_json(document: LineDocument) -> Line:
    """The opposite of `to_json`. Raises KeyError, TypeError or ValueError for another document."""
    spans, gaps = tuple(Span(**span) for span in document["spans"]), tuple(Gap(**gap) for gap in document["gaps"])
    histories = {int(number): str(text) for number, text in document["histories"].items()}
    return Line(spans, gaps, histories, str(document["system"]))


# ---------------------------------------------------------------------------------------------- on the host


def load(app: App) -> Line:
    """The record of this host's epoch; an empty one for a new epoch."""
    record = _read(app)
    return from_json(record) if record is not None else Line()


def _read(app: App) -> LocalRecord | None:
    """The record on this host; None when there is none of this host's epoch."""
    own_epoch, record = epochs.local(app), read_json(app.backup / "timelines.json")
    if record is None or own_epoch is None or record["epoch"] != own_epoch.epoch:
        return None
    return cast(LocalRecord, record)


def change(app: App, change: Callable[[Line], Line]) -> None:
    """Change the record on this host, and in the bucket. The monitor publishes it later when S3 does not answer.

    The monitor, the WAL stream, backups and transitions call this in processes of their own.
    """
    make_directory(app.backup, 0o700)
    with _exclusive(app):
        own_epoch, before = epochs.local(app), _read(app)
        line = from_json(before) if before is not None else Line()
        if own_epoch is None or (new := change(line)) == line:
            return
        # without the file the bucket may have a record: after a return to an older epoch, or when the file was lost
        complete = before is not None and before.get("whole", True)
        _write(app, own_epoch.epoch, new, published=False, complete=complete)
    with suppress(HostError):
        publish(app)


def _exclusive(app: App) -> Flock:
    """The lock for reading and changing the record. It is never held during a request to S3."""
    return Flock(app.backup / "timelines.lock", wait=MOMENT)


def publish(app: App) -> None:
    """Put an unpublished record of this host into the bucket. Raises HostError.

    One process at a time publishes, so that an older record never replaces a newer one; the others return at once.
    """
    record = _read(app)
    if record is None or record["published"]:
        return
    with suppress(BlockingIOError), Flock(app.backup / "timelines.publish.lock"):
        while not _publish_once(app):
            pass  # the record was changed meanwhile


def _publish_once(app: App) -> bool:
    """Put the record into the bucket; False when it was changed meanwhile. Raises HostError."""
    record = _complete(app)
    if record is None or record["published"]:
        return True
    store = epochs.bucket(app)
    store.put(_key(store, record["epoch"]), json.dumps(to_json(from_json(record))).encode())
    with _exclusive(app):
        if _read(app) != record:
            return False
        _write(app, record["epoch"], from_json(record), published=True, complete=True)
    return True


def _complete(app: App) -> LocalRecord | None:
    """The record of this host, after it was merged with the bucket's if that may have more. Raises HostError."""
    record = _read(app)
    if record is None or record.get("whole", True):
        return record
    stored = read_stored(epochs.bucket(app), record["epoch"])
    with _exclusive(app):
        now = _read(app)
        if now is not None and now["epoch"] == record["epoch"]:
            _write(app, now["epoch"], merge(stored, from_json(now)), published=False, complete=True)
        return _read(app)


def _write(app: App, epoch: str, line: Line, published: bool, complete: bool) -> None:
    """`complete`: the bucket has nothing of the epoch that is missing here."""
    record: LocalRecord = {"epoch": epoch, "published": published, "whole": complete, **to_json(line)}
    write_json(app.backup / "timelines.json", record)


def read_stored(store: s3.Bucket, epoch: str) -> Line:
    """The record of an epoch in the bucket; an empty one without it. Raises HostError."""
    stored = store.get(_key(store, epoch))
    if stored is None:
        return Line()
    try:
        return from_json(json.loads(stored[0]))
    except (KeyError, TypeError, ValueError, AttributeError):
        fix = "restore the object from the bucket's versions"
        raise HostError(f"{_key(store, epoch)} was not written by Homeport", store.where, fix) from None


def _key(store: s3.Bucket, epoch: str) -> str:
    return f"{store.prefix}/{epoch}/TIMELINES"


def record_live(app: App, at: float | None = None) -> int | None:
    """Record which timeline is live, and the instant `at` of whose data it continues; returns the timeline.

    None without a backup. Call it while the server runs, after its data was replaced or put back. Idempotent.
    """
    if settings.configured(app) is None:
        return None
    timeline = live_timeline(app)
    system = cluster.control_data(cluster.live_server(app))["Database system identifier"]
    own_history, now = history(app, timeline), time.time()
    change(app, lambda line: with_timeline(line, timeline, own_history, now, at)._replace(system=system))
    return timeline


def live_timeline(app: App) -> int:
    """The timeline that the running server writes. Raises HostError."""
    ((segment,),) = cluster.query(cluster.live_server(app), "SELECT pg_walfile_name(pg_current_wal_lsn())")
    return int(segment[:8], 16)


def history(app: App, timeline: int) -> str:
    """The text of a timeline's history file in the live data; "" for the first timeline, which has none."""
    try:
        return cluster.read_text(app.cluster_data / "pg_wal" / f"{timeline:08X}.history")
    except FileNotFoundError:
        return ""
