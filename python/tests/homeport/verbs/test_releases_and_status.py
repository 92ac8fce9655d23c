"""What `deploy releases` and `deploy status` print."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.verbs import releases, status


def test_the_table_of_releases_lines_up() -> None:
    rows = [
        {
            "release": "r1",
            "state": "live",
            "git": {"sha": "abcdef0123", "dirty": True},
            "created": "now",
            "size": 1000,
            "who": "ann",
        },
        {"release": "r2", "state": "superseded", "git": None, "created": "then", "size": None, "who": "b"},
    ]
    lines = releases.table(rows)
    assert lines[1].split() == ["r1", "live", "abcdef0+", "now", "1.0", "kB", "ann"]
    assert lines[1].index("abcdef0+") == lines[2].index("-") == lines[0].index("GIT")


def test_no_releases_says_what_to_do() -> None:
    assert releases.table([]) == ["no releases yet; run deploy push"]


@pytest.mark.parametrize("live", [None, {"release": "r1", "since": "now", "port": 20000}])
def test_the_status_is_told_before_and_after_the_first_push(live: dict[str, Any] | None) -> None:
    found = {
        "app": "shop", "url": "https://shop.test/", "host": "web", "live": live, "certificate": None, "lock": None,
        "health": {"ok": bool(live), "status": 200}, "disk": {"free": 5e9, "total": 1e10},
    }  # fmt: skip
    lines = status.lines(found)
    assert ("nothing yet" in lines[1]) is (live is None)
    assert ("NOT HEALTHY" in lines[2]) is (live is None)
