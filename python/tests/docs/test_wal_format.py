"""The format of docs/explanation/wal-stream.md: the words of the page are enough to read what hostctl writes."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import zlib

import pytest

from hostctl.postgres.archive.timelines import Gap, Line, Span, to_json
from hostctl.postgres.archive.wal_stream import Piece, Sealer, piece_key

EPOCH, SEGMENT = "20261121T100322123Z-3f2a9c", "00000002000000000000001A"
WAL = bytes(range(256)) * 40


def read(content: bytes, place: str, key: str | None) -> bytes:
    """The WAL of an object, as the page says."""
    magic, mac, payload = content[:4], content[4:36], content[36:]
    assert magic == b"HPT1"
    passphrase, proof = "", b"homeport"
    if key:
        strong = hashlib.pbkdf2_hmac("sha256", key.encode(), b"homeport tail", 200_000)
        passphrase = hmac.digest(strong, b"encryption", "sha256").hex()
        proof = hmac.digest(strong, b"proof", "sha256")
    assert mac == hmac.digest(proof, place.encode() + b"\n" + payload, "sha256")
    if key:
        argv = ["openssl", "enc", "-d", "-aes-256-ctr", "-pbkdf2", "-iter", "1", "-pass", f"pass:{passphrase}"]
        payload = subprocess.run(argv, input=payload, capture_output=True, check=True).stdout
    return zlib.decompress(payload)


@pytest.mark.parametrize("key", [None, "a phrase of a person's own"])
def test_a_piece_is_read_by_the_words_of_the_page(key: str | None) -> None:
    piece = Piece(SEGMENT, 0x10, 0x10 + len(WAL))

    content = Sealer(EPOCH, key).seal(piece, WAL)

    place = f"{SEGMENT}/00000010-{0x10 + len(WAL):08x}"
    assert piece_key(piece) == place
    assert read(content, f"{EPOCH}/{place}", key) == WAL


def test_the_record_of_timelines_has_the_keys_of_the_page() -> None:
    told = to_json(Line((Span(2, 1.0, 1, 4096, 0.5),), (Gap(2.0),), {2: "1\t0/1000\tno recovery target"}, "7"))

    assert told == {
        "spans": [{"timeline": 2, "since": 1.0, "parent": 1, "fork": 4096, "at": 0.5}],
        "gaps": [{"since": 2.0, "until": None}],
        "histories": {"2": "1\t0/1000\tno recovery target"},
        "system": "7",
    }
