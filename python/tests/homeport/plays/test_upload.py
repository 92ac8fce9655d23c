"""Sending what differs: in pieces, from where an earlier try was cut off."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from homeport.plays.actions import upload
from homeport.release.delta import Stream
from homeport.remote.hostctl import Hostctl


class Receiver:
    """A host that keeps the pieces, and refuses one that does not follow the last."""

    def __init__(self, held: bytes = b"") -> None:
        self.held = held

    def run(self, command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        offset = int(command[command.index("--offset") + 1])
        assert offset == len(self.held)
        self.held += stdin
        return 0, b'{"held": 0, "complete": true}', b""

    def hostctl(self) -> Hostctl:
        return Hostctl("hello", "host", self.run)


def stream(data: bytes, base: Path | None = None) -> Stream:
    return Stream(data, hashlib.sha256(data).hexdigest(), base)


@given(st.binary(min_size=1, max_size=64), st.integers(1, 16), st.data())
def test_a_cut_upload_goes_on_where_it_stopped_and_arrives_whole(
    content: bytes, piece: int, data: st.DataObject
) -> None:
    upload.PIECE_BYTES, kept = piece, upload.PIECE_BYTES
    try:
        cut = data.draw(st.integers(0, len(content)))
        receiver, sending = Receiver(content[:cut]), stream(content)
        partial = {"d": {"bytes": cut, "transfer": sending.sha256}}
        sent = upload.send(receiver.hostctl(), "d", sending, partial, lambda done, total: None)
    finally:
        upload.PIECE_BYTES = kept
    assert receiver.held == content
    assert sent == len(content) - cut


def test_the_beginning_of_another_stream_is_not_built_upon() -> None:
    receiver, sending = Receiver(), stream(b"new content")
    upload.send(receiver.hostctl(), "d", sending, {"d": {"bytes": 5, "transfer": "another"}}, lambda done, total: None)
    assert receiver.held == b"new content"


def test_the_base_of_a_delta_is_named_by_its_digest() -> None:
    words: list[list[str]] = []

    def run(command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        words.append(command)
        return 0, b"{}", b""

    upload.send(Hostctl("hello", "host", run), "d", stream(b"x", Path("/cache/abc.tar")), {}, lambda done, total: None)
    assert words[0][-2:] == ["--base", "abc"]
