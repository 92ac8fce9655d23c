"""A websocket client for tests: shows whether a websocket outlives a flip, and when and how it is closed."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect


class WebSocketError(Exception):
    """The server did not switch protocols."""


@dataclass(frozen=True)
class Closed:
    """How and when (seconds since the epoch) a websocket ended; `code` is None when no close frame came."""

    at: float
    code: int | None


class ConnectionClosedError(Exception):
    """The websocket ended while a message was awaited; `closed` says how."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(f"closed with code {closed.code}")
        self.closed = closed


class WebSocket:
    """An open websocket. `address` is `IP` or `IP:PORT`; `domain` goes into SNI and Host; times in seconds.

    Raises WebSocketError when the server does not switch protocols, OSError when it cannot be reached.
    """

    def __init__(
        self,
        address: str,
        domain: str,
        ca: Path | str | None = None,
        *,
        path: str = "/websocket",
        plain: bool = False,
        timeout: float = 10.0,
    ) -> None:
        self.timeout = timeout
        self.closed: Closed | None = None
        self._open = ExitStack()
        host, _, port = address.partition(":")
        # a socket of our own: no proxy is used and no redirect is followed
        raw = socket.create_connection((host, int(port or (80 if plain else 443))), timeout)
        try:
            opened = connect(
                f"{'ws' if plain else 'wss'}://{domain}{path}",
                sock=raw,
                ssl=None if plain else ssl.create_default_context(cafile=str(ca) if ca else None),
                open_timeout=timeout,
                close_timeout=timeout,
                ping_interval=None,  # a connection that is idle stays idle
                compression=None,
                max_size=None,
            )
        except InvalidHandshake as error:
            raise WebSocketError(f"the server did not switch protocols: {error}") from error
        self._connection = self._open.enter_context(opened)
        self.socket = self._connection.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def send(self, text: str) -> None:
        self._connection.send(text)

    def receive(self, timeout: float | None = None) -> str:
        """The next text message. Raises ConnectionClosedError at the end, TimeoutError when none comes."""
        try:
            return self._connection.recv(self.timeout if timeout is None else timeout, decode=True)
        except ConnectionClosed as error:
            self.closed = self.closed or Closed(time.time(), error.rcvd.code if error.rcvd else None)
            raise ConnectionClosedError(self.closed) from error

    def answers_ping(self, payload: bytes, timeout: float | None = None) -> bool:
        """Whether a ping is answered by a pong with the same payload."""
        return self._connection.ping(payload).wait(self.timeout if timeout is None else timeout)

    def echo(self, text: str) -> bool:
        """Whether a message sent now comes back."""
        self.send(text)
        return self.receive() == text

    def wait_closed(self, timeout: float) -> Closed:
        """Reads until the server ends it. Raises TimeoutError when it is still open after `timeout`."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.receive(max(0.0, deadline - time.monotonic()))
            except ConnectionClosedError as error:
                return error.closed

    def close(self, code: int = 1000) -> Closed:
        """Sends a close frame and waits for the server's."""
        self._connection.close(code)
        return self.wait_closed(self.timeout)
