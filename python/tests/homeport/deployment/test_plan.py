"""What a push says it would change."""

from __future__ import annotations

from homeport.deployment import transition


def test_a_plan_that_changes_nothing_is_one_line() -> None:
    assert len(transition.plan_lines({"unchanged": True, "previous": "r1"})) == 1


def test_a_plan_names_what_would_change() -> None:
    plan = {"unchanged": False, "release": "r2", "previous": "r1", "bytes": 2138, "pending": ["migrations/1_a.exs"],
            "changed_keys": ["env.clear.A"], "restart": True}  # fmt: skip
    text = "\n".join(transition.plan_lines(plan))
    for part in ("r2, in place of r1", "2.1 kB", "1_a.exs", "env.clear.A", "stops before"):
        assert part in text
