"""A small websocket client (RFC 6455): shows whether a websocket outlives a flip, and when it is closed."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class WebSocketError(Exception):
    """The handshake was refused, or what came is not a websocket frame."""


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
        self.buffer = b""
        self.closed: Closed | None = None
        self.socket = connect(address, domain, ca, plain, timeout)
        try:
            self.shake_hands(domain, path)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, text: str) -> None:
        self.frame(TEXT, text.encode())

    def ping(self, payload: bytes = b"") -> None:
        self.frame(PING, payload)

    def receive(self, timeout: float | None = None) -> str:
        """The next text message. Raises ConnectionClosedError at the end, TimeoutError when none comes."""
        return self.next_of(TEXT, timeout).decode()

    def pong(self, timeout: float | None = None) -> bytes:
        """The payload of the next pong; messages before it are dropped. Raises as `receive`."""
        return self.next_of(PONG, timeout)

    def echo(self, text: str) -> bool:
        """Whether a message sent now comes back."""
        self.send(text)
        return self.receive() == text

    def wait_closed(self, timeout: float) -> Closed:
        """Reads until the server ends it. Raises TimeoutError when it is still open after `timeout`."""
        deadline = time.monotonic() + timeout
        while self.closed is None:
            self.step(deadline)
        return self.closed

    def close(self, code: int = 1000) -> Closed:
        """Says goodbye and waits for the server to do so."""
        self.frame(CLOSE, code.to_bytes(2))
        return self.wait_closed(self.timeout)

    def next_of(self, wanted: int, timeout: float | None) -> bytes:
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while self.closed is None:
            opcode, payload = self.step(deadline)
            if opcode == wanted:
                return payload
        raise ConnectionClosedError(self.closed)

    def step(self, deadline: float) -> tuple[int, bytes]:
        """One frame, whatever it is; answers pings and remembers the end."""
        try:
            opcode, payload = self.read_frame(deadline)
        except (EOFError, ConnectionError, ssl.SSLEOFError):
            self.end(None)
            return CLOSE, b""
        if opcode == PING:
            self.frame(PONG, payload)
        if opcode == CLOSE:
            self.end(int.from_bytes(payload[:2]) or 1005)  # 1005: a close frame without a code
        return opcode, payload

    def end(self, code: int | None) -> None:
        self.closed = Closed(time.time(), code)
        self.socket.close()

    def read_frame(self, deadline: float) -> tuple[int, bytes]:
        first, second = self.read(2, deadline)
        if second & 0x80 or not first & 0x80:
            raise WebSocketError(f"a masked or fragmented frame: {first:#x} {second:#x}")
        width = {126: 2, 127: 8}.get(second, 0)
        length = int.from_bytes(self.read(width, deadline)) if width else second
        return first & 0x0F, self.read(length, deadline)

    def read(self, size: int, deadline: float) -> bytes:
        while len(self.buffer) < size:
            self.fill(deadline)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came in time")
        self.socket.settimeout(left)
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def frame(self, opcode: int, payload: bytes) -> None:
        """Sends a frame, masked as a client's must be (RFC 6455, section 5.3)."""
        key = os.urandom(4)
        masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
        self.socket.settimeout(self.timeout)
        self.socket.sendall(bytes([0x80 | opcode]) + mask_and_length(len(payload)) + key + masked)

    def shake_hands(self, domain: str, path: str) -> None:
        key = base64.b64encode(secrets.token_bytes(16))
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {domain}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key.decode()}",
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        check_handshake(self.read_head(), key)

    def read_head(self) -> bytes:
        deadline = time.monotonic() + self.timeout
        while b"\r\n\r\n" not in self.buffer:
            self.fill(deadline)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return head


def connect(address: str, domain: str, ca: Path | str | None, plain: bool, timeout: float) -> socket.socket:
    host, _, port = address.partition(":")
    raw = socket.create_connection((host, int(port or (80 if plain else 443))), timeout)
    if plain:
        return raw
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    return context.wrap_socket(raw, server_hostname=domain)


def check_handshake(head: bytes, key: bytes) -> None:
    accept = base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())
    first = head.split(b"\r\n", 1)[0]
    if b" 101 " not in first + b" " or accept not in head:
        raise WebSocketError(f"the server did not switch protocols: {first.decode('latin-1')}")


def mask_and_length(size: int) -> bytes:
    if size < 126:
        return bytes([0x80 | size])
    if size < 65_536:
        return bytes([0x80 | 126]) + size.to_bytes(2)
    return bytes([0x80 | 127]) + size.to_bytes(8)
