"""A load whose every write is known: unique bodies, posted at a steady rate, and which of them were acknowledged.

Runs in a thread of its own, from `with` to its end:

    with Writer(box.address, "ledger.sandbox.test", box.root) as writer:
        ...
    missing = writer.acknowledged.keys() - rows_found
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.clients import Pace
from demo.connection import Connection, RequestError, describe

AFTER_FAILURE = 0.02  # seconds: a refused connection must not become a spin
TIMEOUT = 30.0  # seconds of one request; the edge holds it while the app is away


class Writer:
    """Posts to /echo, which answers after the commit. `acknowledged` tells when, in seconds since the epoch.

    A failed request is never sent again; `failed` counts them by what went wrong. Nothing else is kept, so a body that
    is in the database though nobody acknowledged it is no mistake.
    """

    def __init__(self, address: str, domain: str, ca: Path, rate: float = 200.0, clients: int = 8) -> None:
        self.address, self.domain = address, domain
        self.tls = ssl.create_default_context(cafile=str(ca))
        self.pace, self.clients = Pace(rate), clients
        self.run = uuid.uuid4().hex[:8]
        self.acknowledged: dict[str, float] = {}
        self.failed: dict[str, int] = {}
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; what is in flight ends first."""
        self._stopping.set()
        self._thread.join(TIMEOUT + 5)

    def wait(self, writes: int, patience: float = 60.0) -> None:
        """Wait until that many more writes were acknowledged. Raises TimeoutError."""
        wanted, deadline = len(self.acknowledged) + writes, time.monotonic() + patience
        while len(self.acknowledged) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.acknowledged)} of {wanted} writes were acknowledged: {self.failed}")
            time.sleep(0.01)

    def missing(self, found: set[str], before: float = float("inf")) -> list[float]:
        """When the writes were acknowledged that are not in `found`, of those acknowledged before a time."""
        return sorted(at for body, at in self.acknowledged.items() if at < before and body not in found)

    async def _work(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self.clients)))

    async def _client(self) -> None:
        connection: Connection | None = None
        while not self._stopping.is_set():
            await self.pace.turn()
            try:
                connection = connection if connection and connection.usable() else await self._open()
                await self._post(connection, f"{self.run}-{next(self._numbers)}")
            except (RequestError, OSError, TimeoutError) as error:
                self._fail(error)
                if connection:
                    connection.close()
                connection = None
                await asyncio.sleep(AFTER_FAILURE)
        if connection:
            connection.close()

    async def _open(self) -> Connection:
        async with asyncio.timeout(TIMEOUT):
            return await Connection.open(self.address, 443, self.domain, self.tls)

    async def _post(self, connection: Connection, body: str) -> None:
        head = f"POST /echo HTTP/1.1\r\nhost: {self.domain}\r\ncontent-type: text/plain\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()
        async with asyncio.timeout(TIMEOUT):
            answer = await connection.ask(request)
        if answer.status != 200 or answer.body != body.encode():
            raise RequestError("status", f"{answer.status} {answer.body[:80]!r}")
        self.acknowledged[body] = time.time()

    def _fail(self, error: Exception) -> None:
        what = error.args[0] if isinstance(error, RequestError) else describe(error)
        with contextlib.suppress(IndexError):
            self.failed[str(what)] = self.failed.get(str(what), 0) + 1
