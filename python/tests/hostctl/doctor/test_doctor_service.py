"""What is told of the app, its edge, its certificates' authority, its names and its backup."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from hostctl.common.finding import ERROR, OK, SKIPPED, WARNING
from hostctl.doctor import service


@contextmanager
def instance(reply: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """An instance that gives every request the same answer; its port, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join()


def context(**status: Any) -> Any:
    told = {"live": None, "health": {"ok": True, "status": 200}, "lock": None, "database": None, **status}
    return SimpleNamespace(status=told, environment={}, settings={"domains": ["shop.test"]})


def test_a_maintenance_page_that_is_on_is_worth_a_look() -> None:
    assert [one.state for one in service.maintenance(context(maintenance=None))] == [OK]
    (found,) = service.maintenance(context(maintenance={"since": 0.0, "who": "ann"}))
    assert (found.state, found.fix) == (WARNING, "deploy maintenance off")
    assert "1970-01-01 00:00:00 UTC by ann" in found.says


def test_an_order_that_the_authority_refused_is_told_with_its_reason_and_the_limit() -> None:
    (found,) = service.of_authority({"shop.test": "HTTP 403 no way in"})
    assert (found.state, "HTTP 403 no way in" in found.says, "5 failed" in found.fix) == (ERROR, True, True)


def test_a_limit_of_the_authority_is_to_be_waited_for() -> None:
    (found,) = service.of_authority({"shop.test": "HTTP 429 urn:ietf:params:acme:error:rateLimited"})
    assert found.fix.startswith("wait")
    assert service.of_authority({})[0].state == OK


def test_an_app_that_refuses_the_origin_of_its_own_name_is_found() -> None:
    with instance(b"HTTP/1.1 403 Forbidden\r\n\r\n") as (port, asked):
        answer = service.upgrade(port, "shop.test")
    assert answer.status == 403
    assert b"Origin: https://shop.test\r\n" in asked[0]
    found = service.of_origin({"shop.test": 403, "www.shop.test": 101})
    assert [one.state for one in found] == [ERROR]
    assert 'check_origin: ["//shop.test", "//www.shop.test"]' in found[0].fix


def test_an_app_that_takes_its_sockets_or_has_none_is_well() -> None:
    with instance(b"HTTP/1.1 101 Switching Protocols\r\n\r\n") as (port, _):
        assert service.upgrade(port, "shop.test").status == 101
    assert service.of_origin({"shop.test": 101})[0].state == OK
    assert service.of_origin({"shop.test": 404})[0].state == OK


def test_phx_host_that_is_none_of_the_domains_is_told() -> None:
    known = context(live={"port": None})
    known.environment["PHX_HOST"] = "old.test"
    assert [one.state for one in service.origin(known)] == [WARNING, SKIPPED]
    known.environment["PHX_HOST"] = "shop.test"
    assert [one.state for one in service.origin(known)] == [SKIPPED]


def test_what_is_not_live_or_not_healthy_is_told() -> None:
    live = {"release": "r1", "restarts": 0}
    assert service.app(context())[0].state == WARNING
    assert service.app(context(live=live))[0].state == OK
    sick = {"ok": False, "status": 500, "text": "GET /health answered 500"}
    assert service.app(context(live=live, health=sick))[0].says == "r1 is not healthy: GET /health answered 500"


@pytest.mark.parametrize(
    ("told", "elsewhere", "state"),
    [
        (None, True, OK),
        (None, False, WARNING),
        ({"lag": 0.2, "last_good": None}, False, WARNING),
        ({"lag": None, "last_good": {"at": 1_790_000_000}}, False, OK),
    ],
)
def test_a_backup_is_well_only_after_a_drill(told: Any, elsewhere: bool, state: str) -> None:
    assert service.of_backup(told, elsewhere).state == state


def test_without_a_database_no_store_is_asked() -> None:
    assert service.backup(context())[0].state == OK
    assert service.store(context())[0].state == SKIPPED


def test_a_lock_that_a_person_left_is_told_and_that_of_a_push_is_not() -> None:
    held = {"who": "ann", "since": 1_790_000_000, "message": "noon", "manual": True}
    assert "locked by ann" in service.lock(context(lock=held))[0].says
    assert service.lock(context(lock={**held, "manual": False}))[0].state == OK
