"""The tail: the end of the WAL, as far as the archive has not got it yet, streamed to S3 a few times a second.

What lies below the flush position is never changed again, every record carries a CRC, and replay stops at the first
record that is not whole. So any prefix of a segment is good for a restore, and chunks of it are all that is needed:
`<prefix>/<epoch>/tail/<segment>/<from>-<to>`, removed once the archive has the segment.

A chunk is MAGIC, an HMAC of where it belongs and of what follows, and the bytes, compressed and then, with a key,
encrypted by openssl. Each is bound to its place, so a chunk of anything else, or half of one, is not used.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
import select
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostctl.backup import epochs, s3, settings
from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory, read_json, write_atomic, write_json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.archive import timelines
from hostctl.postgres.server import cluster

MAGIC = b"HPT1"
MAC = 32  # bytes of the HMAC
LARGEST = 4 << 20  # bytes of WAL in one chunk
PACE = 8  # chunks that are removed at most between two that are sent
ROUNDS = 200_000  # of PBKDF2: the key may be a phrase that a person chose
ANSWER = 10.0  # seconds that the server may take to answer
AGAIN = 1.0  # seconds before a server, or a store, that does not answer is asked again
TOLD = 0.5  # seconds between two notes of a tail that gets on
IDLE = 5.0  # and of one that has nothing to do
FRESH = 15.0  # seconds after which what a note says is not the state of now any more
READERS = 8
SEGMENT = re.compile(r"[0-9A-F]{24}")
CHUNK = re.compile(r"/tail/([0-9A-F]{24})/([0-9a-f]{8})-([0-9a-f]{8})$")
ASKED = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_current_wal_flush_lsn()::text END, "
    "CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_walfile_name(pg_current_wal_flush_lsn()) END, "
    "coalesce(last_archived_wal, ''), (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') "
    "FROM pg_stat_archiver;\n"
)


class ServerPosition(NamedTuple):
    """What the server says: how far its WAL is on disk, on which timeline, and up to where it is archived (0: unknown).

    Positions in bytes of WAL, `size` is that of a segment.
    """

    flushed: int
    timeline: int
    archived: int
    size: int


class Piece(NamedTuple):
    """Bytes of one segment, from and to within it."""

    segment: str
    begin: int
    end: int


# ---------------------------------------------------------------------------------------------- pure


def parse(line: str) -> ServerPosition | None:
    """The server's answer; None while it recovers, and for what is no answer."""
    fields = line.strip().split("|")
    if len(fields) != 4 or not SEGMENT.fullmatch(fields[1]) or not fields[3].isdigit():
        return None
    timeline, size = int(fields[1][:8], 16), int(fields[3])
    archived = fields[2] if SEGMENT.fullmatch(fields[2]) and int(fields[2][:8], 16) == timeline else ""
    until = (segment_number(archived, size) + 1) * size if archived else 0
    return ServerPosition(timelines.parse_lsn(fields[0]), timeline, until, size)


def segment_number(segment: str, size: int) -> int:
    """Which segment it is, counted from the beginning of the WAL."""
    return int(segment[8:16], 16) * ((1 << 32) // size) + int(segment[16:24], 16)


def segment_name(timeline: int, at: int, size: int) -> str:
    """The segment that holds a position."""
    high, low = divmod(at // size, (1 << 32) // size)
    return f"{timeline:08X}{high:08X}{low:08X}"


def next_piece(sent: int, seen: ServerPosition) -> Piece | None:
    """What to send next, when everything below `sent` is sent; None when that is all."""
    at = max(sent, seen.archived)
    if at >= seen.flushed:
        return None
    begin = at % seen.size
    end = min(begin + LARGEST, seen.size, begin + seen.flushed - at)
    return Piece(segment_name(seen.timeline, at, seen.size), begin, end)


def contiguous(pieces: Iterable[tuple[int, int]], read: Callable[[int, int], bytes | None]) -> bytes:
    """The bytes of a segment from its beginning up to the first hole.

    `read` gives a chunk's bytes, or None for one that is damaged or another's: it counts as if it were not there.
    """
    found = b""
    for begin, end in sorted(pieces):
        if begin > len(found):
            break
        data = read(begin, end) if end > len(found) else None
        if data is not None and len(data) == end - begin:
            found += data[len(found) - begin :]
    return found


def parse_key(key: str) -> Piece | None:
    """The piece that an object of the bucket holds; None for another object."""
    found = CHUNK.search(key)
    return Piece(found[1], int(found[2], 16), int(found[3], 16)) if found else None


def piece_key(piece: Piece) -> str:
    """The object's name below the tail of its epoch."""
    return f"{piece.segment}/{piece.begin:08x}-{piece.end:08x}"


# ---------------------------------------------------------------------------------------------- chunks


class Sealer:
    """Seals chunks of one epoch, and opens them."""

    def __init__(self, epoch: str, key: str | None) -> None:
        self.epoch = epoch
        phrase, self._mac = derive_keys(key) if key else ("", b"homeport")
        self._phrase = phrase or None

    def seal(self, piece: Piece, data: bytes) -> bytes:
        """The object that holds a piece. Raises HostError when openssl refuses."""
        packed = zlib.compress(data, 1)
        payload = packed if self._phrase is None else _openssl("-e", self._phrase, packed)
        return MAGIC + self._proof(piece, payload) + payload

    def open(self, piece: Piece, sealed: bytes) -> bytes | None:
        """The bytes of a piece; None for what was not sealed as that piece, of this epoch and with this key."""
        proof, payload = sealed[len(MAGIC) : len(MAGIC) + MAC], sealed[len(MAGIC) + MAC :]
        if not sealed.startswith(MAGIC) or not hmac.compare_digest(proof, self._proof(piece, payload)):
            return None
        data = zlib.decompress(payload if self._phrase is None else _openssl("-d", self._phrase, payload))
        return data if len(data) == piece.end - piece.begin else None

    def _proof(self, piece: Piece, payload: bytes) -> bytes:
        return hmac.digest(self._mac, f"{self.epoch}/{piece_key(piece)}\n".encode() + payload, "sha256")


@functools.cache
def derive_keys(key: str) -> tuple[str, bytes]:
    """The phrase that openssl gets, and the key of the proofs: neither tells anything of the other."""
    strong = hashlib.pbkdf2_hmac("sha256", key.encode(), b"homeport tail", ROUNDS)
    return hmac.digest(strong, b"encryption", "sha256").hex(), hmac.digest(strong, b"proof", "sha256")


def _openssl(direction: str, phrase: str, data: bytes) -> bytes:
    """AES-256 in counter mode with a salt of its own for every chunk. Raises HostError."""
    source, sink = os.pipe()
    try:
        os.write(sink, phrase.encode() + b"\n")
        os.close(sink)
        # the phrase is as random as a key: its salt needs no work
        argv = ["openssl", "enc", direction, "-aes-256-ctr", "-pbkdf2", "-iter", "1", "-pass", f"fd:{source}"]
        done = subprocess.run(argv, input=data, capture_output=True, check=False, pass_fds=(source,), timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"openssl does not run: {type(error).__name__}", "openssl", "apt-get install openssl") from None
    finally:
        os.close(source)
    if done.returncode != 0:
        raise HostError(f"openssl failed: {done.stderr.decode(errors='replace')[:200]}", "openssl", "deploy status")
    return done.stdout


# ---------------------------------------------------------------------------------------------- restore


def prefix(store: s3.Bucket, epoch: str) -> str:
    """Where an epoch's tail is in the bucket."""
    return f"{store.prefix}/{epoch}/tail/"


def restore_segments(app: App, store: s3.Bucket, epoch: str, into: Path) -> int:
    """Write the segments of an epoch's WAL stream into a restored data directory, each as far as it is stored.

    Returns the bytes of WAL. PostgreSQL asks the archive first, so a segment that it has does no harm. Raises
    HostError.
    """
    pieces: dict[str, list[Piece]] = {}
    for one in store.list(prefix(store, epoch)):
        if (piece := parse_key(one.key)) is not None:
            pieces.setdefault(piece.segment, []).append(piece)
    size = int(cluster.control_data(cluster.Server(app.cluster_bin, into, into))["Bytes per WAL segment"])
    sealer = _sealer(app, epoch)
    return sum(_laid(store, sealer, found, size, into) for found in pieces.values())


def _laid(store: s3.Bucket, sealer: Sealer, pieces: Sequence[Piece], size: int, into: Path) -> int:
    with ThreadPoolExecutor(READERS) as pool:
        opened = dict(zip(pieces, pool.map(lambda piece: _opened(store, sealer, piece), pieces), strict=True))
    segment = pieces[0].segment
    data = contiguous([piece[1:] for piece in pieces], lambda begin, end: opened[Piece(segment, begin, end)])[:size]
    if data:
        _own(into, into / "pg_wal" / segment, data.ljust(size, b"\0"))
        # half a segment must never be archived under the name of the whole one
        _own(into, into / "pg_wal/archive_status" / f"{segment}.done", b"")
    return len(data)


def _own(data: Path, target: Path, content: bytes) -> None:
    """A file of the one to whom the data belongs."""
    owner = data.stat()
    for directory in [target.parent] if not target.parent.exists() else []:
        make_directory(directory, 0o700)
        os.chown(directory, owner.st_uid, owner.st_gid)
    write_atomic(target, content)
    os.chown(target, owner.st_uid, owner.st_gid)


def _opened(store: s3.Bucket, sealer: Sealer, piece: Piece) -> bytes | None:
    found = store.get(prefix(store, sealer.epoch) + piece_key(piece))
    return sealer.open(piece, found[0]) if found else None


def _sealer(app: App, epoch: str) -> Sealer:
    backup, keys = settings.backup(app), settings.credentials(app)
    return Sealer(epoch, keys.encryption_key if backup.encrypted else None)


# ---------------------------------------------------------------------------------------------- the server


class Session:
    """A psql that stays connected. Raises HostError when the server does not answer."""

    def __init__(self, server: cluster.Server) -> None:
        argv: list[str | Path] = [server.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", server.socket]
        argv += ["-U", cluster.SUPERUSER, "-d", cluster.SUPERUSER]
        env = {**cluster.environment(), "PGAPPNAME": "hostctl tail", "PGCONNECT_TIMEOUT": "5"}
        env |= {"PGOPTIONS": "-c statement_timeout=0 -c idle_session_timeout=0"}
        pipe = subprocess.PIPE
        self._psql = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env, cwd="/", text=True
        )
        self._where = str(server.socket)

    def ask(self) -> ServerPosition | None:
        """Where the server is now; None while it recovers."""
        stdin, stdout = self._psql.stdin, self._psql.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):
            stdin.write(ASKED)
            stdin.flush()
        ready, _, _ = select.select([stdout], [], [], ANSWER)
        line = stdout.readline() if ready else ""
        if not line:
            raise HostError("PostgreSQL does not answer the tail", self._where, "deploy backup status")
        return parse(line)

    def close(self) -> None:
        self._psql.kill()
        self._psql.communicate()


def start_position(wal: Path, seen: ServerPosition) -> int:
    """Where to begin: after the archived WAL, or, when the server does not know, with the first segment that waits."""
    if seen.archived:
        return seen.archived
    waiting = sorted(path.name[:24] for path in (wal / "archive_status").glob("*.ready"))
    own = [one for one in waiting if SEGMENT.fullmatch(one) and int(one[:8], 16) == seen.timeline]
    current = (seen.flushed - 1) // seen.size * seen.size
    return min(current, segment_number(own[0], seen.size) * seen.size) if own else current


def read_piece(wal: Path, piece: Piece) -> bytes | None:
    """The bytes of a piece from the server's log; None when the segment is gone (and so archived).

    An archived segment gets another name, then other bytes: so what was read counts only if the name is still its own.
    """
    path = wal / piece.segment
    try:
        with path.open("rb") as file:
            file.seek(piece.begin)
            data = file.read(piece.end - piece.begin)
            same = os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return None
    return data if same and len(data) == piece.end - piece.begin else None


# ---------------------------------------------------------------------------------------------- the pump


class Sender:
    """What one session has sent of one timeline, and which pieces are in the bucket."""

    def __init__(self, app: App, store: s3.Bucket, sealer: Sealer, seen: ServerPosition) -> None:
        self.app, self.store, self.sealer = app, store, sealer
        self.wal = app.cluster_data / "pg_wal"
        self.timeline, self.sent = seen.timeline, start_position(self.wal, seen)
        self.lies: list[Piece] | None = None  # not known before the bucket was asked
        self.behind: float | None = None
        self.error: str | None = None
        self.noted, self.told = 0.0, -1

    def step(self, seen: ServerPosition) -> None:
        """Send what is new, and remove what the archive has. What S3 refuses is tried again the next time."""
        if seen.flushed > max(self.sent, seen.archived):
            self.behind = self.behind or time.time()
        before = (self.behind, self.error)
        try:
            self._send(seen)
            self._remove(seen)
            self.error = None
        except HostError as error:
            self.error = error.what
        self._note(seen, before)

    def _send(self, seen: ServerPosition) -> None:
        while (piece := next_piece(self.sent, seen)) is not None:
            start = segment_number(piece.segment, seen.size) * seen.size
            data = read_piece(self.wal, piece)
            if data is not None:
                self._tell()
                self.store.put(prefix(self.store, self.sealer.epoch) + piece_key(piece), self.sealer.seal(piece, data))
                self._known().append(piece)
            elif seen.archived <= start:
                # a log without this segment has archived it, and the statistics are late
                self.sent = start + seen.size
                continue
            self.sent = start + piece.end
        self.sent = max(self.sent, seen.archived)
        self.behind = None

    def _tell(self) -> None:
        """What is sent is of use only where the bucket says that its timeline counts."""
        if self.lies is None or self.error is not None:
            timelines.publish(self.app)

    def _known(self) -> list[Piece]:
        """What lies in the bucket; of other timelines only what is too old to be of use."""
        if self.lies is None:
            oldest = time.time() - settings.backup(self.app).retention
            listed = [
                (parse_key(one.key), one.modified) for one in self.store.list(prefix(self.store, self.sealer.epoch))
            ]
            own = f"{self.timeline:08X}"
            self.lies = [p for p, at in listed if p is not None and (p.segment[:8] == own or at < oldest)]
        return self.lies

    def _remove(self, seen: ServerPosition) -> None:
        known = self._known()
        done = [piece for piece in known if self._needless(piece, seen)][:PACE]
        for piece in done:
            self.store.delete(prefix(self.store, self.sealer.epoch) + piece_key(piece))
            known.remove(piece)

    def _needless(self, piece: Piece, seen: ServerPosition) -> bool:
        other = piece.segment[:8] != f"{self.timeline:08X}"
        return other or (segment_number(piece.segment, seen.size) + 1) * seen.size <= seen.archived

    def _note(self, seen: ServerPosition, before: tuple[float | None, str | None]) -> None:
        """Write down how far it is: at once when that changes, else now and then."""
        now, often = time.time(), TOLD if self.told != self.sent else IDLE
        if before == (self.behind, self.error) and now - self.noted < often:
            return
        told: Json = {"at": now, "epoch": self.sealer.epoch, "timeline": self.timeline}
        told |= {"sent": timelines.format_lsn(self.sent), "flushed": timelines.format_lsn(seen.flushed)}
        told |= {"behind_since": self.behind, "error": self.error}
        write_json(self.app.backup / "tail.json", told, durable=False)
        self.noted, self.told = now, self.sent


# ---------------------------------------------------------------------------------------------- the service


def run(app: App, host: Host, enough: Callable[[], bool] = lambda: False) -> Json:
    """Stream until `enough`, through restarts of the server and absences of S3."""
    make_directory(app.backup, 0o700)
    while not enough():
        with suppress(HostError, OSError, zlib.error):
            _session(app, host, enough)
        if not enough():
            host.sleep(AGAIN)
    return {}


def _session(app: App, host: Host, enough: Callable[[], bool]) -> None:
    """Stream as long as the server answers and stays on its timeline, into the epoch of the beginning."""
    mine = epochs.local(app)
    if mine is None:
        return
    store = s3.Bucket(settings.backup(app), settings.credentials(app), connect=3.0, total=20.0, tries=1)
    interval, sealer, pump = settings.backup(app).interval, _sealer(app, mine.epoch), None
    session = Session(cluster.live_server(app))
    try:
        while not enough():
            begun = host.clock()
            seen = session.ask()
            if seen is not None:
                pump = pump if pump and pump.timeline == seen.timeline else Sender(app, store, sealer, seen)
                pump.step(seen)
                if pump.error is not None and not _same(app, mine.epoch):
                    return
            host.sleep(max(AGAIN if pump is None or pump.error else 0.0, interval - (host.clock() - begun)))
    finally:
        session.close()


def _same(app: App, epoch: str) -> bool:
    mine = epochs.local(app)
    return mine is not None and mine.epoch == epoch


def last_note(app: App) -> Mapping[str, object] | None:
    """The state that a running WAL stream wrote last; None when it is out of date."""
    found = read_json(app.backup / "tail.json")
    return found if found is not None and time.time() - found["at"] < FRESH else None


def lag(app: App) -> float | None:
    """Seconds since the oldest write that may not be on S3; None when no tail runs."""
    found = last_note(app)
    if found is None:
        return None
    since = found["behind_since"]
    return round(time.time() - float(str(since)), 3) if since is not None else 0.0


def has_sent(app: App, timeline: int, at: int) -> bool:
    """Whether the WAL stream, or the archive, has all WAL of a timeline below a position."""
    found = last_note(app)
    return found is not None and found["timeline"] == timeline and timelines.parse_lsn(str(found["sent"])) >= at
