"""Times as text: the same that datetime gives."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from hostctl.common import timestamps

AT = 1763709203.9876


def test_each_has_its_form() -> None:
    assert timestamps.utc(AT) == "2025-11-21 07:13:23 UTC"
    assert timestamps.iso(AT) == "2025-11-21T07:13:23Z"
    assert timestamps.iso_milliseconds(AT) == "2025-11-21T07:13:23.987Z"
    assert timestamps.compact(AT) == "20251121T071323Z"


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
def test_milliseconds_are_those_of_datetime(moment: datetime) -> None:
    seconds = moment.replace(tzinfo=UTC).timestamp()
    expected = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert timestamps.iso_milliseconds(seconds) == expected
