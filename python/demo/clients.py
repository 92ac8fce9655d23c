"""The clients of a load: each asks GET and POST in turn, one request at a time, and never asks twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import time
from dataclasses import dataclass

from demo.connection import Answer, Connection, RequestError, describe
from demo.report import Counts, Failure, Report

AFTER_REFUSAL = 0.05  # seconds: a refused connection must not become a spin


@dataclass(frozen=True)
class Settings:
    """What to load and how. `address` is `IP` or `IP:PORT`; times in seconds; `rate` in requests a second."""

    address: str
    domain: str
    ca: str | None = None
    plain: bool = False
    clients: int = 20
    rate: float = 400.0
    seconds: float = 600.0
    max_requests: int = 1_000_000
    timeout: float = 30.0
    get: str = "/version"
    post: str = "/echo"

    def endpoint(self) -> tuple[str, int]:
        host, _, port = self.address.partition(":")
        return host, int(port or (80 if self.plain else 443))


class Pace:
    """Spreads requests evenly. Time that was lost is not made up for: a burst would measure the burst."""

    def __init__(self, rate: float) -> None:
        self.gap = 1.0 / rate if rate > 0 else 0.0
        self.next = 0.0

    async def turn(self) -> None:
        now = time.monotonic()
        slot = max(now, self.next)
        self.next = slot + self.gap
        await asyncio.sleep(slot - now)
        # The event loop reads sockets before it wakes from this, so an end of stream that has come is seen.
        await asyncio.sleep(0)


class Client:
    """One client: asks in turn GET and POST on one connection, and counts what comes of each."""

    def __init__(self, number: int, runner: Runner) -> None:
        self.number = number
        self.runner = runner
        self.connection: Connection | None = None
        self.turn = number

    async def run(self) -> None:
        while await self.runner.permit():
            self.turn += 1
            await self.request("POST" if self.turn % 2 else "GET")
            self.runner.answered_once(self.number)
        self.drop()

    async def request(self, method: str) -> None:
        started, clock = time.time(), time.monotonic()
        sent: list[bool] = []
        try:
            async with asyncio.timeout(self.runner.settings.timeout):
                await self.exchange(method, sent)
        except TimeoutError:
            self.fail(method, RequestError("timeout", f"{self.runner.settings.timeout:g} s"), started, sent)
        except RequestError as error:
            self.fail(method, error, started, sent)
            await asyncio.sleep(AFTER_REFUSAL if error.kind == "connect" else 0)
        else:
            self.runner.counts.good(method, time.monotonic() - clock)

    async def exchange(self, method: str, sent: list[bool]) -> None:
        connection = await self.connected()
        request, body = self.compose(method)
        sent.append(True)
        answer = await connection.ask(request)
        if not 200 <= answer.status < 300:
            raise RequestError("status", str(answer.status))
        self.check(method, body, answer)

    def check(self, method: str, body: bytes, answer: Answer) -> None:
        if method == "GET":
            self.runner.seen(answer.body)
        elif answer.body != body:
            raise RequestError("echo", f"sent {body[:40]!r}, got {answer.body[:40]!r}")

    async def connected(self) -> Connection:
        if self.connection and self.connection.usable():
            return self.connection
        self.drop()
        host, port = self.runner.settings.endpoint()
        try:
            self.connection = await Connection.open(host, port, self.runner.settings.domain, self.runner.tls)
        except OSError as error:
            raise RequestError("connect", describe(error)) from None
        self.runner.counts.connections += 1
        return self.connection

    def compose(self, method: str) -> tuple[bytes, bytes]:
        settings = self.runner.settings
        path = settings.get if method == "GET" else settings.post
        head = f"{method} {path} HTTP/1.1\r\nhost: {settings.domain}\r\nuser-agent: homeport-load\r\n"
        if method == "GET":
            return f"{head}\r\n".encode(), b""
        body = f"client {self.number} turn {self.turn} {secrets.token_hex(64)}".encode()
        head += f"content-type: text/plain\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body, body

    def fail(self, method: str, error: RequestError, started: float, sent: list[bool]) -> None:
        phase = self.runner.counts.phases[-1].name
        failure = Failure(method, error.kind, error.detail, phase, started, time.time(), bool(sent))
        self.runner.counts.bad(failure)
        if error.kind not in ("status", "echo"):
            self.drop()

    def drop(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None


class Runner:
    """All clients of one process, until time, requests or patience end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tls = None if settings.plain else ssl.create_default_context(cafile=settings.ca)
        self.counts = Counts()
        self.pace = Pace(settings.rate)
        self.issued = 0
        self.stopping = False
        self.fresh = set(range(settings.clients))
        self.ready = asyncio.Event()

    async def run(self) -> Report:
        asyncio.get_running_loop().call_later(self.settings.seconds, self.stop)
        await asyncio.gather(*(Client(number, self).run() for number in range(self.settings.clients)))
        self.ready.set()
        return self.counts.report()

    def stop(self) -> None:
        self.stopping = True

    async def permit(self) -> bool:
        if not self.stopping:
            await self.pace.turn()
        if self.stopping or self.issued >= self.settings.max_requests:
            return False
        self.issued += 1
        return True

    def answered_once(self, number: int) -> None:
        self.fresh.discard(number)
        if not self.fresh:
            self.ready.set()

    def seen(self, body: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            self.counts.versions[str(json.loads(body)["version"])] += 1
