from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.apps.support import Instance, running
from tests.websocket import ConnectionClosedError, WebSocket, WebSocketError


def test_messages_of_every_length_come_back(hello: Instance) -> None:
    with WebSocket(hello.address, "localhost", plain=True) as socket:
        for size in (0, 1, 125, 126, 65_535, 65_536, 300_000):
            assert socket.echo("é" * (size // 2) + "x" * (size % 2))


def test_a_ping_is_answered_with_its_payload(hello: Instance) -> None:
    with WebSocket(hello.address, "localhost", plain=True) as socket:
        assert socket.answers_ping(b"are you there")


def test_a_close_is_answered_in_kind(hello: Instance) -> None:
    with WebSocket(hello.address, "localhost", plain=True) as socket:
        assert socket.close(1000).code == 1000
        with pytest.raises(ConnectionClosedError):
            socket.receive()


def test_while_it_is_open_waiting_for_its_end_times_out(hello: Instance) -> None:
    with WebSocket(hello.address, "localhost", plain=True) as socket:
        with pytest.raises(TimeoutError):
            socket.wait_closed(0.05)
        assert socket.echo("still here")


def test_an_unmasked_or_oversized_message_is_refused_with_its_code(hello: Instance) -> None:
    with WebSocket(hello.address, "localhost", plain=True) as socket:
        socket.socket.sendall(b"\x81\x05Hello")
        assert socket.wait_closed(10).code == 1002
    with WebSocket(hello.address, "localhost", plain=True) as socket:
        socket.socket.sendall(b"\x82\xff" + (10**9).to_bytes(8))
        assert socket.wait_closed(10).code == 1009


def test_a_path_that_is_no_websocket_is_an_error(hello: Instance) -> None:
    with pytest.raises(WebSocketError, match="200"):
        WebSocket(hello.address, "localhost", plain=True, path="/health")


def test_a_stop_says_going_away(hello_release: Path, tmp_path: Path) -> None:
    with running(hello_release, tmp_path) as instance:
        with WebSocket(instance.address, "localhost", plain=True) as socket:
            assert socket.echo("before")
            instance.process.send_signal(signal.SIGTERM)
            assert socket.wait_closed(30).code == 1001
        assert instance.process.wait(30) == 0


def test_a_kill_is_an_end_without_a_code(hello_release: Path, tmp_path: Path) -> None:
    with (
        running(hello_release, tmp_path) as instance,
        WebSocket(instance.address, "localhost", plain=True) as socket,
    ):
        assert socket.echo("before")
        instance.process.kill()
        assert socket.wait_closed(30).code is None
