"""Uploads with the real zstd: in pieces, resumed, damaged, as a delta, and never more than announced."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest
from hostworld import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostctl.common.errors import HostError
from hostctl.release import upload


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def compressed(path: Path, base: Path | None = None) -> bytes:
    extra = [f"--patch-from={base}"] if base else []
    return subprocess.run(["zstd", "-q", "-c", "--long=31", *extra, str(path)], capture_output=True, check=True).stdout


class Sender:
    """A tar as the controller would send it."""

    def __init__(self, world: World, content: bytes, base: bytes | None = None) -> None:
        self.app = world.app
        paths = [world.root / "new", world.root / "base"]
        paths[0].write_bytes(content)
        paths[1].write_bytes(base or b"")
        self.digest, self.base = sha(content), sha(base) if base is not None else None
        self.stream = compressed(paths[0], paths[1] if base is not None else None)

    def send(self, offset: int, data: bytes) -> dict[str, object]:
        with tempfile.TemporaryFile() as stream:
            stream.write(data)
            stream.seek(0)
            return self.send_from(stream, offset)

    def send_from(self, stream: IO[bytes], offset: int) -> dict[str, object]:
        total = len(self.stream)
        return upload.receive(self.app, self.digest, sha(self.stream), offset, total, self.base, stream)


CONTENT = bytes(range(256)) * 3000


def test_a_whole_upload_becomes_an_artifact(world: World) -> None:
    sender = Sender(world, CONTENT)
    assert sender.send(0, sender.stream) == {"held": len(sender.stream), "complete": True}
    assert world.app.artifact(sender.digest).read_bytes() == CONTENT
    assert upload.artifact_digests(world.app) == [sender.digest]
    assert upload.partial(world.app) == {}


def test_a_sender_that_falls_silent_does_not_keep_the_next_one_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut wire is not told to this end: sshd may hold the pipe open for hours."""
    monkeypatch.setattr(upload, "SILENCE", 0.3)
    sender = Sender(world, CONTENT)
    half = len(sender.stream) // 2
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb", 0) as stream, os.fdopen(theirs, "wb", 0) as wire:
        wire.write(sender.stream[:half])
        with pytest.raises(HostError, match="no data arrived for"):
            sender.send_from(stream, 0)
    assert sender.send(half, sender.stream[half:]) == {"held": len(sender.stream), "complete": True}


def test_an_upload_that_was_cut_goes_on_where_it_was(world: World) -> None:
    sender = Sender(world, CONTENT)
    half = len(sender.stream) // 2
    assert sender.send(0, sender.stream[:half]) == {"held": half, "complete": False}
    assert upload.partial(world.app) == {sender.digest: {"bytes": half, "transfer": sha(sender.stream)}}
    with pytest.raises(HostError, match=f"has {half} bytes"):
        sender.send(half + 1, sender.stream[half + 1 :])
    assert sender.send(half, sender.stream[half:])["complete"]


def test_another_stream_for_the_same_artifact_begins_anew(world: World) -> None:
    sender = Sender(world, CONTENT)
    sender.send(0, sender.stream[:10])
    sender.stream = subprocess.run(
        ["zstd", "-q", "-19", "-c", str(world.root / "new")], capture_output=True, check=True
    ).stdout
    with pytest.raises(HostError, match="has 0 bytes"):
        sender.send(10, sender.stream[10:])
    assert sender.send(0, sender.stream)["complete"]


def test_a_delta_is_decoded_with_its_base(world: World) -> None:
    base = hashlib.sha512(b"x").digest() * 2000
    world.app.artifacts.mkdir(parents=True, exist_ok=True)
    world.app.artifact(sha(base)).write_bytes(base)
    sender = Sender(world, base + b"one more line", base)
    assert sender.send(0, sender.stream)["complete"]
    assert world.app.artifact(sender.digest).read_bytes() == base + b"one more line"


def test_a_delta_whose_base_is_gone_is_refused_with_the_way_out(world: World) -> None:
    sender = Sender(world, CONTENT, b"some base")
    with pytest.raises(HostError, match="base") as caught:
        sender.send(0, sender.stream)
    assert caught.value.fix == "send it whole"
    assert upload.artifact_digests(world.app) == []


def test_more_than_announced_is_refused(world: World) -> None:
    sender = Sender(world, CONTENT)
    with pytest.raises(HostError, match="longer than the announced"):
        sender.send(0, sender.stream + b"more")
    assert upload.artifact_digests(world.app) == []


def test_a_stream_of_another_artifact_is_refused_and_forgotten(world: World) -> None:
    sender = Sender(world, CONTENT)
    sender.digest = sha(b"something else")
    with pytest.raises(HostError, match="digest"):
        sender.send(0, sender.stream)
    assert upload.artifact_digests(world.app) == []
    assert upload.partial(world.app) == {}


def test_bytes_that_are_no_zstd_stream_are_refused(world: World) -> None:
    sender = Sender(world, CONTENT)
    sender.stream = b"this is not zstd"
    with pytest.raises(HostError, match="decompressed"):
        sender.send(0, sender.stream)


def test_a_disk_without_room_is_refused_before_a_byte_is_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "RESERVE", 1 << 60)
    sender = Sender(world, CONTENT)
    with pytest.raises(HostError, match="disk is full"):
        sender.send(0, sender.stream)
    assert upload.partial(world.app) == {}


def test_a_disk_that_fills_while_decoding_stops_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender(world, CONTENT)
    sender.send(0, sender.stream[:5])
    monkeypatch.setattr(upload, "RESERVE", 1 << 60)
    with pytest.raises(HostError, match="disk is full"):
        sender.send(5, sender.stream[5:])
    assert [path.name for path in world.app.artifacts.iterdir()] == [".receiving"]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=3),
    cuts=st.lists(st.integers(0, 10_000)),
)
def test_however_it_is_cut_and_damaged_only_the_announced_artifact_is_ever_held(
    world: World, flips: list[tuple[int, int]], cuts: list[int]
) -> None:
    shutil.rmtree(world.app.artifacts, ignore_errors=True)
    sender = Sender(world, CONTENT)
    sent = bytearray(sender.stream)
    for at, mask in flips:
        sent[at % len(sent)] ^= mask
    marks = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})
    try:
        for start, end in pairwise(marks):
            sender.send(start, bytes(sent[start:end]))
    except HostError:
        assert bytes(sent) != sender.stream
    held = upload.artifact_digests(world.app)
    assert held == ([sender.digest] if bytes(sent) == sender.stream else [])
