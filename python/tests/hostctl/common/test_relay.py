"""What comes in at one side of a relay goes out at the other, unchanged, until either side ends."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostctl.common.net import relay

LARGE = 1 << 20  # bytes: more than the pipes hold


@dataclass
class Ends:
    """A relay's other sides: the connection's, and the pipes'."""

    connection: socket.socket
    source: IO[bytes]
    sink: IO[bytes]
    works: threading.Thread


@contextlib.contextmanager
def relayed() -> Iterator[Ends]:
    near, far = socket.socketpair()
    pipes = [
        os.fdopen(handle, mode, 0)
        for pair in (os.pipe(), os.pipe())
        for handle, mode in zip(pair, ("rb", "wb"), strict=True)
    ]
    source, source_end, sink_end, sink = pipes

    def work() -> None:
        relay.carry(near, source.fileno(), sink.fileno())
        sink.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield Ends(far, source_end, sink_end, thread)
    finally:
        source_end.close()
        thread.join()
        for one in (near, far, *pipes):
            one.close()


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300)))
def test_what_the_connection_sends_is_written(sent: list[bytes]) -> None:
    with relayed() as ends:
        for part in sent:
            ends.connection.sendall(part)
        ends.connection.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: ends.sink.read(100), b"")) == b"".join(sent)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300)))
def test_what_is_read_is_sent_to_the_connection(sent: list[bytes]) -> None:
    with relayed() as ends, ends.connection.makefile("rb") as stream:
        for part in sent:
            ends.source.write(part)
        ends.source.close()
        assert stream.read() == b"".join(sent)


def test_both_ways_at_once_do_not_wait_for_each_other_with_full_pipes() -> None:
    sent = os.urandom(LARGE)

    def write(ends: Ends) -> None:
        left = memoryview(sent)
        while left:
            left = left[ends.source.write(left) :]

    with relayed() as ends:
        writers = [threading.Thread(target=write, args=(ends,))]
        writers.append(threading.Thread(target=ends.connection.sendall, args=(sent,)))
        for writer in writers:
            writer.start()
        with os.fdopen(os.dup(ends.sink.fileno()), "rb") as sink, ends.connection.makefile("rb") as stream:
            assert sink.read(LARGE) == sent
            assert stream.read(LARGE) == sent
        for writer in writers:
            writer.join()


@pytest.mark.parametrize("leaves", ["connection", "source"])
def test_it_ends_when_either_side_leaves(leaves: str) -> None:
    with relayed() as ends:
        {"connection": ends.connection, "source": ends.source}[leaves].close()
        ends.works.join(60)
        assert not ends.works.is_alive()
