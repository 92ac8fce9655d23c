"""release.delta: what the host's own zstd program makes of the stream."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.release import delta

NOISE = random.Random(7)


def decoded(stream: delta.Stream, work: Path) -> bytes:
    """As the host decodes it."""
    (work / "stream").write_bytes(stream.data)
    base = [f"--patch-from={stream.base}"] if stream.base else []
    command = ["zstd", "-q", "-f", "-d", "--long=31", *base, str(work / "stream"), "-o", str(work / "out")]
    subprocess.run(command, check=True)
    return (work / "out").read_bytes()


def files(work: Path, new: bytes, base: bytes) -> tuple[Path, Path]:
    (work / "new.tar").write_bytes(new)
    (work / "base.tar").write_bytes(base)
    return work / "new.tar", work / "base.tar"


def test_a_small_change_in_a_large_release_is_a_small_stream(tmp_path: Path) -> None:
    base = NOISE.randbytes(40_000_000)
    new = base[:9_000_000] + NOISE.randbytes(2000) + base[9_000_100:]
    stream = delta.make(*files(tmp_path, new, base))
    assert stream.base == tmp_path / "base.tar"
    assert len(stream.data) < 20_000
    assert decoded(stream, tmp_path) == new


def test_files_that_moved_in_the_tar_are_still_found(tmp_path: Path) -> None:
    base = NOISE.randbytes(6_000_000)
    new = base[3_000_000:] + base[:3_000_000]
    stream = delta.make(*files(tmp_path, new, base))
    assert len(stream.data) < 10_000
    assert decoded(stream, tmp_path) == new


def test_a_base_that_does_not_help_is_not_used(tmp_path: Path) -> None:
    new = b"all new " * 1000 + NOISE.randbytes(200_000)
    stream = delta.make(*files(tmp_path, new, NOISE.randbytes(200_000)))
    assert stream.base is None
    assert decoded(stream, tmp_path) == new


def test_without_a_base_the_stream_stands_alone(tmp_path: Path) -> None:
    new, _ = files(tmp_path, b"x" * 3_000_000, b"")
    stream = delta.make(new)
    assert stream.base is None
    assert len(stream.data) < 2000
    assert decoded(stream, tmp_path) == new.read_bytes()


def test_the_sha256_is_that_of_the_bytes_sent(tmp_path: Path) -> None:
    new, base = files(tmp_path, b"abc" * 1000, b"abc" * 900)
    stream = delta.make(new, base)
    assert stream.sha256 == hashlib.sha256(stream.data).hexdigest()


def test_the_wrong_base_is_noticed_by_the_decoder(tmp_path: Path) -> None:
    base = NOISE.randbytes(500_000)
    stream = delta.make(*files(tmp_path, base + b"more", base))
    (tmp_path / "base.tar").write_bytes(NOISE.randbytes(500_000))
    with pytest.raises(subprocess.CalledProcessError):
        decoded(stream, tmp_path)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(base=st.binary(max_size=4000), cut=st.integers(0, 4000), added=st.binary(max_size=500))
def test_any_two_tars_round_trip(tmp_path: Path, base: bytes, cut: int, added: bytes) -> None:
    new = base[:cut] + added + base[cut:]
    assert decoded(delta.make(*files(tmp_path, new, base)), tmp_path) == new
