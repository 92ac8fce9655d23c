"""Which timeline counted when, and which base backup leads to an instant: decisions, and how they are kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from pgworld import Host

from hostctl.backup import epochs, settings
from hostctl.postgres.archive import timelines
from hostctl.postgres.archive.timelines import Base, Gap, Line, Range, Span

HISTORY_2 = "1\t0/3000148\tbefore 2026-11-21 14:01:18+00\n"
HISTORY_3 = HISTORY_2 + "\n2\t0/5000000\tno recovery target specified\n"


def base(label: str, ended: float, timeline: int, stop: int, kind: str = "full") -> Base:
    return Base(label, kind, ended - 1, ended, timeline, stop - 1, stop)


def test_a_restore_goes_on_from_where_its_history_file_says() -> None:
    line = timelines.with_timeline(Line(), 1, "", 100.0, None)
    line = timelines.with_timeline(line, 2, HISTORY_2, 200.0, 150.0)
    assert line.spans == (Span(1, 100.0), Span(2, 200.0, 1, 0x3000148, 150.0))
    assert timelines.ancestry(line.spans, 2) == {2: None, 1: 0x3000148}


def test_to_settle_what_is_settled_changes_nothing() -> None:
    line = timelines.with_timeline(Line(), 2, HISTORY_2, 200.0, 150.0)
    assert timelines.with_timeline(line, 2, HISTORY_2, 300.0, None) == line


def test_an_undone_restore_leaves_no_span_but_its_number_stays_taken() -> None:
    line = timelines.with_timeline(Line(), 1, "", 100.0, None)
    line = timelines.with_timeline(line, 2, HISTORY_2, 200.0, 150.0)
    undone = timelines.with_timeline(line, 1, "", 210.0, None)
    assert undone.spans == (Span(1, 100.0),)
    assert undone.histories == {2: HISTORY_2}
    again = timelines.with_timeline(undone, 3, "1\t0/4000000\tx\n", 300.0, 250.0)
    assert [span.timeline for span in again.spans] == [1, 3]
    assert timelines.ancestry(again.spans, 3) == {3: None, 1: 0x4000000}


def test_what_was_given_up_by_a_restore_is_found_on_the_timeline_that_counted_then() -> None:
    spans = (Span(1, 100.0), Span(2, 200.0, 1, 0x3000000, 150.0))
    found = {at: timelines.span_at(spans, at) for at in (99.0, 100.0, 180.0, 200.0)}
    assert found == {99.0: None, 100.0: spans[0], 180.0: spans[0], 200.0: spans[1]}
    assert timelines.span_at(spans, None) == spans[1]


def test_a_base_backup_of_a_timeline_that_never_counted_is_not_used() -> None:
    spans = (Span(1, 100.0), Span(3, 300.0, 1, 40, 250.0))
    bases = [base("a", 110.0, 1, 10), base("orphan", 290.0, 2, 60), base("late", 320.0, 3, 70)]
    way = timelines.ancestry(spans, 3)
    assert timelines.choose_base(bases, way, 310.0) == bases[0]
    assert timelines.choose_base(bases, way, None) == bases[2]


def test_a_base_backup_taken_after_a_timeline_was_left_does_not_lead_to_the_next() -> None:
    spans = (Span(1, 100.0), Span(2, 200.0, 1, 20, 150.0))
    bases = [base("before", 120.0, 1, 20), base("after", 180.0, 1, 30)]
    assert timelines.choose_base(bases, timelines.ancestry(spans, 2), 250.0) == bases[0]
    assert timelines.choose_base(bases, timelines.ancestry(spans, 1), 190.0) == bases[1]


def test_a_point_is_reached_from_a_base_backup_before_its_position() -> None:
    bases = [base("a", 110.0, 1, 10), base("b", 120.0, 1, 30)]
    way = timelines.ancestry((Span(1, 100.0),), 1)
    assert timelines.choose_base(bases, way, 125.0, lsn=20) == bases[0]
    assert timelines.choose_base(bases, way, 105.0) is None


def test_no_log_leads_over_a_gap() -> None:
    before, after = base("a", 110.0, 1, 10), base("b", 170.0, 1, 30)
    gaps = (Gap(130.0, 170.0),)
    assert timelines.gap_before(gaps, before, 140.0) == gaps[0]
    assert timelines.gap_before(gaps, before, 130.0) is None
    assert timelines.gap_before(gaps, after, 180.0) is None
    assert timelines.gap_before(gaps, before, None) is None


def test_what_can_be_restored_ends_at_a_gap_and_goes_on_after_the_next_base_backup() -> None:
    line = Line((Span(1, 100.0),), (Gap(130.0, 170.0),))
    bases = [base("a", 110.0, 1, 10), base("b", 120.0, 1, 20), base("c", 170.0, 1, 30), base("orphan", 10.0, 9, 5)]
    assert timelines.ranges(bases, line, 200.0) == [Range(110.0, 130.0), Range(170.0, 200.0)]


@given(st.integers(0, 2**62))
def test_a_position_is_written_as_postgresql_does(number: int) -> None:
    assert timelines.parse_lsn(timelines.format_lsn(number)) == number


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """What comes of restores, some of them undone, each from a timeline that counts."""
    line, now, newest = timelines.with_timeline(Line(), 1, "", 0.0, None), 0.0, 1
    for _ in range(draw(st.integers(0, 8))):
        now += draw(st.floats(1, 100))
        if len(line.spans) > 1 and draw(st.booleans()):
            line = timelines.with_timeline(line, line.spans[-2].timeline, "", now, None)
            continue
        newest += 1
        parent = draw(st.sampled_from(line.spans)).timeline
        fork = timelines.format_lsn(draw(st.integers(1, 1 << 40)))
        line = timelines.with_timeline(line, newest, f"{parent}\t{fork}\tx\n", now, now - 1)
    return line


@given(lines())
def test_every_way_begins_with_the_first_timeline_and_uses_only_what_counted(line: Line) -> None:
    for span in line.spans:
        way = timelines.ancestry(line.spans, span.timeline)
        assert 1 in way
        assert set(way) <= {one.timeline for one in line.spans}
        assert [left for left in way.values() if left is None] == [None]


WRITER = """
import sys
from pathlib import Path
from hostctl.core.paths import Layout
from hostctl.postgres.archive import timelines
from hostctl.postgres.archive.timelines import Gap
app, first = Layout(Path(sys.argv[1])).app("shop"), int(sys.argv[2])
for number in range(first, first + 20):
    timelines.change(app, lambda line: line._replace(gaps=(*line.gaps, Gap(float(number)))))
timelines.publish(app)
"""


def test_what_several_processes_note_at_once_is_all_kept_here_and_in_the_bucket(
    new_host: Callable[..., Host],
) -> None:
    app = new_host().app
    mine = epochs.new_local(app, settings.backup(app), None, "the first")
    argv = [sys.executable, "-c", WRITER, str(app.layout.root)]
    several = [subprocess.Popen([*argv, str(first)]) for first in (0, 100, 200)]
    assert [one.wait(120) for one in several] == [0, 0, 0]
    timelines.publish(app)
    wanted = {float(first + number) for first in (0, 100, 200) for number in range(20)}
    assert {gap.since for gap in timelines.load(app).gaps} == wanted
    assert timelines.read_stored(epochs.bucket(app), mine.epoch) == timelines.load(app)


@given(lines(), st.integers(0, 8), st.integers(2, 3))
def test_a_host_that_lost_what_it_knew_learns_it_from_the_bucket_and_keeps_what_it_has_seen_since(
    line: Line, cut: int, more: int
) -> None:
    stored = Line(line.spans[: cut + 1], (Gap(5.0, None), Gap(7.0, 8.0)), line.histories, "1")
    live = stored.spans[-1].timeline
    own = timelines.with_timeline(Line(), live, line.histories.get(live, ""), 1000.0, None)._replace(system="1")
    assert timelines.merge(stored, own) == stored
    assert timelines.merge(Line(), own) == own
    for number in range(more):
        history = f"{live}\t0/{number + 1}000000\tx\n"
        own = timelines.with_timeline(own, 100 + number, history, 1001.0 + number, None)
    own = own._replace(gaps=(Gap(5.0, 9.0), Gap(1000.0, None)))
    found = timelines.merge(stored, own)
    assert found.spans == (*stored.spans, *own.spans[1:])
    assert found.gaps == (Gap(5.0, 9.0), Gap(7.0, 8.0), Gap(1000.0, None))
    assert timelines.merge(found, own) == found


@given(lines())
def test_what_is_kept_is_read_back_the_same(line: Line) -> None:
    assert timelines.from_json(timelines.to_json(line)) == line


@given(lines(), st.lists(st.tuples(st.integers(1, 12), st.floats(0, 900), st.integers(1, 1 << 40)), max_size=8))
def test_what_is_chosen_was_whole_before_its_timeline_was_left(line: Line, given: list[tuple[int, float, int]]) -> None:
    bases = [base(str(number), ended, timeline, stop) for number, (timeline, ended, stop) in enumerate(given)]
    for span in line.spans:
        way = timelines.ancestry(line.spans, span.timeline)
        found = timelines.choose_base(bases, way, span.since + 10)
        if found is not None:
            left = way[found.timeline]
            assert left is None or found.stop <= left
            assert found.ended <= span.since + 10
