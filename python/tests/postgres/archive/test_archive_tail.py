"""The tail's decisions and its chunks: what is sent, what is used, and what never is. Without a server."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import HostError
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.postgres.archive import wal_stream
from hostctl.postgres.archive.wal_stream import Piece, Sealer, ServerPosition

SIZE = 16 << 20
SEGMENT = "000000010000000000000003"
CONTENT = bytes(range(256)) * 4


def test_the_servers_answer_is_understood() -> None:
    line = "0/3032C78|000000010000000000000003|000000010000000000000002|16777216\n"
    assert wal_stream.parse(line) == ServerPosition(0x3032C78, 1, 3 * SIZE, SIZE)
    assert wal_stream.parse("0/3032C78|000000010000000000000003||16777216") == ServerPosition(0x3032C78, 1, 0, SIZE)


@pytest.mark.parametrize("archived", ["00000002.history", "000000010000000000000002.00000028.backup"])
def test_what_is_archived_beside_segments_says_nothing_of_them(archived: str) -> None:
    found = wal_stream.parse(f"0/3032C78|000000020000000000000003|{archived}|16777216")
    assert found is not None
    assert found.archived == 0


def test_what_another_timeline_archived_says_nothing_of_this_one() -> None:
    found = wal_stream.parse("0/3032C78|000000020000000000000003|000000010000000000000002|16777216")
    assert found is not None
    assert found.archived == 0


@pytest.mark.parametrize("line", ["", "||x|16777216", "psql: error", "|||", "0/1|000000010000000000000000||x"])
def test_a_server_that_recovers_or_complains_has_nothing_to_send(line: str) -> None:
    assert wal_stream.parse(line) is None


@given(st.integers(1, 2**30), st.integers(0, 2**48), st.sampled_from([1 << 20, SIZE, 1 << 30]))
def test_a_segment_is_named_as_postgresql_names_it(timeline: int, at: int, size: int) -> None:
    name = wal_stream.segment_name(timeline, at, size)
    assert wal_stream.SEGMENT.fullmatch(name)
    assert wal_stream.segment_number(name, size) == at // size


@given(st.integers(0, 100 * SIZE), st.integers(0, 100 * SIZE), st.integers(0, 99))
def test_what_is_sent_goes_on_without_a_hole_and_ends_where_the_server_has_flushed(
    sent: int, flushed: int, archived: int
) -> None:
    seen = ServerPosition(flushed, 1, archived * SIZE, SIZE)
    at = max(sent, seen.archived)
    while (piece := wal_stream.next_piece(at, seen)) is not None:
        begin = wal_stream.segment_number(piece.segment, SIZE) * SIZE + piece.begin
        assert begin == at
        assert 0 < piece.end - piece.begin <= wal_stream.LARGEST
        assert piece.end <= SIZE
        at += piece.end - piece.begin
    assert at == max(sent, seen.archived, flushed)


@given(st.lists(st.tuples(st.integers(0, 1024), st.integers(0, 1024), st.sampled_from(["good", "bad", "short"]))))
def test_chunks_are_joined_up_to_the_first_hole_and_damaged_ones_are_holes(given_: list[tuple[int, int, str]]) -> None:
    pieces = {(min(one, two), max(one, two)): how for one, two, how in given_ if one != two}

    def read(begin: int, end: int) -> bytes | None:
        how = pieces[(begin, end)]
        return None if how == "bad" else CONTENT[begin:end][: -1 if how == "short" else None]

    found = wal_stream.contiguous(pieces, read)
    assert found == CONTENT[: len(found)]
    covered = {at for (begin, end), how in pieces.items() if how == "good" for at in range(begin, end)}
    assert all(at in covered for at in range(len(found)))
    assert len(found) not in covered


@given(st.lists(st.integers(1, 1023), unique=True), st.integers(0, 5))
def test_of_whole_chunks_everything_is_used_however_often_each_was_sent(cuts: list[int], again: int) -> None:
    host = [0, *sorted(cuts), 1024]
    pieces = list(itertools.pairwise(host))
    pieces += [(0, host[min(again, len(host) - 1)])] if again else []
    assert wal_stream.contiguous(pieces, lambda begin, end: CONTENT[begin:end]) == CONTENT


# ------------------------------------------------------------------------------- chunks


@pytest.mark.parametrize("key", [None, "a phrase that nobody guesses"])
def test_a_chunk_is_opened_as_what_it_was_sealed_as_and_as_nothing_else(key: str | None) -> None:
    piece = Piece(SEGMENT, 0, len(CONTENT))
    sealed = Sealer("epoch-a", key).seal(piece, CONTENT)
    assert Sealer("epoch-a", key).open(piece, sealed) == CONTENT
    assert Sealer("epoch-b", key).open(piece, sealed) is None
    assert Sealer("epoch-a", key).open(piece._replace(segment=SEGMENT[:-1] + "4"), sealed) is None
    assert Sealer("epoch-a", key).open(Piece(SEGMENT, 1, len(CONTENT) + 1), sealed) is None
    assert Sealer("epoch-a", "another").open(piece, sealed) is None


@pytest.mark.parametrize("key", [None, "phrase"])
def test_a_chunk_that_was_cut_or_changed_is_not_used(key: str | None) -> None:
    piece, sealer = Piece(SEGMENT, 0, len(CONTENT)), Sealer("epoch", key)
    sealed = sealer.seal(piece, CONTENT)
    assert [length for length in range(len(sealed)) if sealer.open(piece, sealed[:length]) is not None] == []
    for at in range(0, len(sealed), 7):
        changed = bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]])
        assert sealer.open(piece, changed) is None


def test_with_a_key_neither_content_nor_key_is_in_the_chunk() -> None:
    piece, plain = Piece(SEGMENT, 0, 40), b"the same forty bytes that anyone can read"[:40]
    first, second = (Sealer("epoch", "phrase").seal(piece, plain) for _ in range(2))
    assert plain not in first
    assert b"phrase" not in first
    assert first != second  # of a salt of its own


def test_objects_of_the_tail_are_told_from_others() -> None:
    piece = Piece(SEGMENT, 0x244E8, 0x267F8)
    assert wal_stream.parse_key(f"shop/20261121T140118Z-7cf2c6/tail/{wal_stream.piece_key(piece)}") == piece
    for key in (
        "shop/x/tail/",
        f"shop/x/tail/{SEGMENT}/0-1",
        f"shop/x/pg/{wal_stream.piece_key(piece)}",
        "shop/CURRENT",
    ):
        assert wal_stream.parse_key(key) is None


# ------------------------------------------------------------------------------- reading the log


def test_bytes_are_read_from_a_segment_and_none_from_one_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / SEGMENT).write_bytes(CONTENT)
    with Directory(tmp_path) as wal:
        assert wal_stream.read_piece(wal, Piece(SEGMENT, 10, 20)) == CONTENT[10:20]
        assert wal_stream.read_piece(wal, Piece(SEGMENT, 1000, 2000)) is None
        assert wal_stream.read_piece(wal, Piece(SEGMENT[:-1] + "9", 0, 1)) is None


def test_what_is_not_a_file_of_the_server_never_goes_to_the_bucket(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    (tmp_path / SEGMENT).symlink_to("secret")
    another = User("nobody", 65534, 65534, ())
    with Directory(tmp_path) as wal:
        with pytest.raises(OSError, match=r"links|link"):
            wal_stream.read_piece(wal, Piece(SEGMENT, 0, 10))
        (tmp_path / SEGMENT).unlink()
        (tmp_path / SEGMENT).write_bytes(CONTENT)
        with pytest.raises(PermissionError):
            wal_stream.read_piece(wal, Piece(SEGMENT, 0, 10), another)
        os.link(tmp_path / SEGMENT, tmp_path / "another name")
        with pytest.raises(PermissionError):
            wal_stream.read_piece(wal, Piece(SEGMENT, 0, 10))


def test_a_tail_begins_with_the_first_segment_that_waits_when_the_statistics_are_gone(tmp_path: Path) -> None:
    status = tmp_path / "archive_status"
    status.mkdir()
    seen = ServerPosition(5 * SIZE + 100, 2, 0, SIZE)
    wal = Directory(tmp_path)
    assert wal_stream.start_position(wal, seen) == 5 * SIZE
    for name in ("00000002.history", f"{1:08X}{0:08X}{1:08X}", f"{2:08X}{0:08X}{3:08X}", f"{2:08X}{0:08X}{4:08X}"):
        (status / f"{name}.ready").touch()
    assert wal_stream.start_position(wal, seen) == 3 * SIZE
    assert wal_stream.start_position(wal, seen._replace(archived=4 * SIZE)) == 4 * SIZE
    os.close(wal.handle)


def test_openssl_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="openssl does not run"):
        Sealer("epoch", "phrase").seal(Piece(SEGMENT, 0, 1), b"x")
