"""Times of a document, as a person reads them."""

from __future__ import annotations

from homeport.core.timestamps import with_iso_times


def test_times_are_readable_wherever_they_stand_in_a_document() -> None:
    found = with_iso_times({"live": {"since": 0}, "history": [{"at": 1795245043.8}], "size": 12, "locked": True})
    assert found["live"]["since"] == "1970-01-01T00:00:00Z"
    assert found["history"][0]["at"] == "2026-11-21T07:10:43Z"
    assert (found["size"], found["locked"]) == (12, True)
