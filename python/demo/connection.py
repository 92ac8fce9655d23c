"""One HTTP/1.1 connection that says exactly what became of a request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

LARGEST_HEAD = 64 * 1024


class RequestError(Exception):
    """A request that failed, with its kind (see `demo.report.Failure`)."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def keeps(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Connection:
    """One HTTP/1.1 connection. Any `RequestError` leaves it unusable."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.closing = False

    @classmethod
    async def open(cls, host: str, port: int, name: str, tls: ssl.SSLContext | None) -> Connection:
        """Connects; `name` goes into SNI and is what the certificate must be for. Raises OSError."""
        reader, writer = await asyncio.open_connection(
            host, port, ssl=tls, server_hostname=name if tls else None, limit=LARGEST_HEAD
        )
        return cls(reader, writer)

    def usable(self) -> bool:
        return not (self.closing or self.reader.at_eof() or self.reader.exception() or self.writer.is_closing())

    def close(self) -> None:
        self.writer.transport.abort()

    async def ask(self, request: bytes) -> Answer:
        try:
            self.writer.write(request)
            await self.writer.drain()
            return await self.answer()
        except asyncio.IncompleteReadError as error:
            raise RequestError("cut" if error.partial else "reset", "end of stream") from None
        except asyncio.LimitOverrunError as error:
            raise RequestError("protocol", str(error)) from None
        except OSError as error:
            raise RequestError("reset", describe(error)) from None

    async def answer(self) -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        try:
            status, headers = parse_head(head)
            body = await self.body(headers)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise RequestError("cut", describe(error)) from None
        except ValueError as error:
            raise RequestError("protocol", str(error)) from None
        answer = Answer(status, headers, body)
        self.closing = not answer.keeps
        return answer

    async def body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join([chunk async for chunk in self.chunks()])
        if "content-length" not in headers:
            raise ValueError("an answer with neither content-length nor chunks")
        return await self.reader.readexactly(int(headers["content-length"]))

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """The status and the headers, names in lower case. Raises ValueError when it is not HTTP/1.1."""
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    protocol, status, *_ = line.split(" ", 2)
    if protocol != "HTTP/1.1":
        raise ValueError(f"not HTTP/1.1: {line[:80]!r}")
    pairs = (text.partition(":") for text in lines)
    return int(status), {name.lower(): value.strip() for name, _, value in pairs}


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
