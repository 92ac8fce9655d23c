"""`deploy accessory` as a person reads it."""

from __future__ import annotations

from typing import Any

from homeport.verbs.accessory import table
from homeport.verbs.status import lines
from hostctl.notify.alerts import of_accessory

ONE: dict[str, Any] = {
    "name": "redis",
    "kind": "redis",
    "unit": "homeport-shop-accessory-redis.service",
    "state": "active",
    "left_over": False,
    "listens": ["127.0.0.1:19000"],
    "beyond": [],
    "variables": ["REDIS_URL"],
    "memory": 9_100_000,
    "restarts": 0,
    "bytes": 24_600,
}


def status(**more: Any) -> str:
    """The line of `deploy status` about one that differs so."""
    told = {
        "app": "shop",
        "url": "https://shop.test/",
        "host": "h",
        "live": None,
        "health": {"ok": True, "status": 200},
    }
    told |= {"disk": {"free": 1, "total": 1}, "accessories": [{**ONE, **more}]}
    return lines(told)[-1]


def test_the_list_says_what_runs_where_it_listens_and_what_the_app_gets() -> None:
    assert table([ONE, {**ONE, "name": "mq", "memory": None, "variables": [], "listens": [], "state": "failed"}]) == [
        "NAME   KIND   STATE   LISTENS ON       VARIABLES  MEMORY  DISK",
        "redis  redis  active  127.0.0.1:19000  REDIS_URL  9.1 MB  24.6 kB",
        "mq     redis  failed  -                -          -       24.6 kB",
    ]


def test_the_list_is_loud_about_what_is_left_over_and_what_others_reach() -> None:
    (_, row) = table([{**ONE, "left_over": True, "listens": ["0.0.0.0:1"], "beyond": ["0.0.0.0:1"]}])

    assert "active, LEFT OVER" in row
    assert "0.0.0.0:1, BEYOND THE HOST" in row


def test_status_has_a_line_for_each() -> None:
    assert status() == "accessory    redis: active"
    assert status(state="failed") == "accessory    redis: NOT RUNNING (failed)"
    assert status(beyond=["0.0.0.0:1"]) == "accessory    redis: active, REACHED FROM OUTSIDE"
    assert status(left_over=True) == "accessory    redis: LEFT OVER, active; deploy accessory remove redis"


def test_a_monitor_is_told_of_one_that_does_not_run_or_is_reached_from_elsewhere() -> None:
    assert list(of_accessory(ONE)) == []
    assert list(of_accessory({**ONE, "state": "inactive", "left_over": True})) == []
    assert list(of_accessory({**ONE, "state": "failed"})) == [
        "the accessory redis does not run: homeport-shop-accessory-redis.service is failed"
    ]
    assert list(of_accessory({**ONE, "beyond": ["0.0.0.0:1"]})) == [
        "the accessory redis listens on 0.0.0.0:1, where other machines reach it"
    ]
