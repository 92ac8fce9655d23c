"""The WAL stream: sends the WAL that is not archived yet to S3 a few times a second.

WAL below the flush position never changes, every record has a CRC, and replay stops at the first incomplete record. So
any prefix of a segment can be restored, and the stream stores pieces of segments under
`<prefix>/<epoch>/tail/<segment>/<from>-<to>`, which it deletes once the archive has the segment.

An object is MAGIC, an HMAC over its place and the rest, and the WAL, compressed and, with a key, encrypted by openssl.
The HMAC binds it to its place, so an incomplete object, or one from another place, is not used.
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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

from hostctl.backup import epochs, s3, settings
from hostctl.common.errors import HostError
from hostctl.common.files import make_directory, read_json, write_json
from hostctl.core.paths import App
from hostctl.host.boundary import users
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.host.host import Host
from hostctl.postgres.archive import timelines
from hostctl.postgres.server import cluster

WAL = "data/pg_wal"  # beneath the directory of the cluster
MAGIC = b"HPT1"
MAC = 32  # bytes of the HMAC
LARGEST = 4 << 20  # bytes of WAL in one piece
DELETIONS = 8  # at most, between two pieces that are sent
ROUNDS = 200_000  # of PBKDF2: the key may be a passphrase
ANSWER = 10.0  # seconds that the server may take to answer
RETRY = 1.0  # seconds before the next request to a server or store that does not answer
BUSY = 0.5  # seconds between two states of a stream that sends
IDLE = 5.0  # and of one that has nothing to send
FRESH = 15.0  # seconds after which a state is out of date
READERS = 8  # requests at once
SEGMENT = re.compile(r"[0-9A-F]{24}")
PIECE_KEY = re.compile(r"/tail/([0-9A-F]{24})/([0-9a-f]{8})-([0-9a-f]{8})$")
POSITION = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_current_wal_flush_lsn()::text END, "
    "CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_walfile_name(pg_current_wal_flush_lsn()) END, "
    "coalesce(last_archived_wal, ''), (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') "
    "FROM pg_stat_archiver;\n"
)


class ServerPosition(NamedTuple):
    """The position up to which the server's WAL is on disk, its timeline, and the archived position (0: unknown).

    Positions in bytes of WAL; `size` is the size of a segment in bytes.
    """

    flushed: int
    timeline: int
    archived: int
    size: int


class Piece(NamedTuple):
    """The bytes of a segment from `begin` to `end`."""

    segment: str
    begin: int
    end: int


class StreamState(TypedDict):
    """tail.json: when it was written, the positions, since when a write waits for S3, and the last error."""

    at: float
    epoch: str
    timeline: int
    sent: str
    flushed: str
    behind_since: float | None
    error: str | None


# ---------------------------------------------------------------------------------------------- pure


def parse(line: str) -> ServerPosition | None:
    """The position in the server's answer; None during recovery, and for an invalid answer."""
    fields = line.strip().split("|")
    if len(fields) != 4 or not SEGMENT.fullmatch(fields[1]) or not fields[3].isdigit():
        return None
    timeline, size = int(fields[1][:8], 16), int(fields[3])
    archived = fields[2] if SEGMENT.fullmatch(fields[2]) and int(fields[2][:8], 16) == timeline else ""
    until = (segment_number(archived, size) + 1) * size if archived else 0
    return ServerPosition(timelines.parse_lsn(fields[0]), timeline, until, size)


def segment_number(segment: str, size: int) -> int:
    """The number of the segment, counted from the beginning of the WAL."""
    return int(segment[8:16], 16) * ((1 << 32) // size) + int(segment[16:24], 16)


def segment_name(timeline: int, at: int, size: int) -> str:
    """The name of the segment that holds a position."""
    high, low = divmod(at // size, (1 << 32) // size)
    return f"{timeline:08X}{high:08X}{low:08X}"


def next_piece(sent: int, position: ServerPosition) -> Piece | None:
    """The next piece to send after everything below `sent`; None without one."""
    at = max(sent, position.archived)
    if at >= position.flushed:
        return None
    begin = at % position.size
    end = min(begin + LARGEST, position.size, begin + position.flushed - at)
    return Piece(segment_name(position.timeline, at, position.size), begin, end)


def contiguous(pieces: Iterable[tuple[int, int]], read: Callable[[int, int], bytes | None]) -> bytes:
    """The bytes of a segment from its beginning up to the first hole.

    `read` returns the bytes of a piece, or None for a damaged or foreign one, which counts as missing.
    """
    content = b""
    for begin, end in sorted(pieces):
        if begin > len(content):
            break
        data = read(begin, end) if end > len(content) else None
        if data is not None and len(data) == end - begin:
            content += data[len(content) - begin :]
    return content


def parse_key(key: str) -> Piece | None:
    """The piece with that key in the bucket; None for the key of another object."""
    match = PIECE_KEY.search(key)
    return Piece(match[1], int(match[2], 16), int(match[3], 16)) if match else None


def piece_key(piece: Piece) -> str:
    """The key of a piece, relative to the WAL stream of its epoch."""
    return f"{piece.segment}/{piece.begin:08x}-{piece.end:08x}"


# ---------------------------------------------------------------------------------------------- sealing


class Sealer:
    """Seals the pieces of one epoch, and opens them."""

    def __init__(self, epoch: str, key: str | None) -> None:
        self.epoch = epoch
        phrase, self._mac = derive_keys(key) if key else ("", b"homeport")
        self._phrase = phrase or None

    def seal(self, piece: Piece, data: bytes) -> bytes:
        """The content of the object for a piece. Raises HostError when openssl fails."""
        packed = zlib.compress(data, 1)
        payload = packed if self._phrase is None else _openssl("-e", self._phrase, packed)
        return MAGIC + self._hmac(piece, payload) + payload

    def open(self, piece: Piece, sealed: bytes) -> bytes | None:
        """The bytes of a piece; None unless they were sealed as that piece, in this epoch and with this key."""
        proof, payload = sealed[len(MAGIC) : len(MAGIC) + MAC], sealed[len(MAGIC) + MAC :]
        if not sealed.startswith(MAGIC) or not hmac.compare_digest(proof, self._hmac(piece, payload)):
            return None
        data = zlib.decompress(payload if self._phrase is None else _openssl("-d", self._phrase, payload))
        return data if len(data) == piece.end - piece.begin else None

    def _hmac(self, piece: Piece, payload: bytes) -> bytes:
        return hmac.digest(self._mac, f"{self.epoch}/{piece_key(piece)}\n".encode() + payload, "sha256")


@functools.cache
def derive_keys(key: str) -> tuple[str, bytes]:
    """The passphrase for openssl and the key of the HMAC, derived independently of each other."""
    strong = hashlib.pbkdf2_hmac("sha256", key.encode(), b"homeport tail", ROUNDS)
    return hmac.digest(strong, b"encryption", "sha256").hex(), hmac.digest(strong, b"proof", "sha256")


def _openssl(direction: str, phrase: str, data: bytes) -> bytes:
    """Encrypt or decrypt by AES-256 in counter mode, with a salt for each piece. Raises HostError."""
    source, sink = os.pipe()
    try:
        os.write(sink, phrase.encode() + b"\n")
        os.close(sink)
        # the passphrase is random already: one iteration is enough
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
    """The prefix of an epoch's WAL stream in the bucket."""
    return f"{store.prefix}/{epoch}/tail/"


def restore_segments(app: App, store: s3.Bucket, epoch: str, into: Path) -> int:
    """Write the segments of an epoch's WAL stream into a restored data directory, each up to its first hole.

    Returns the bytes of WAL. PostgreSQL prefers the archive, so a segment that is also archived does no harm. Raises
    HostError.
    """
    pieces: dict[str, list[Piece]] = {}
    for stored in store.list(prefix(store, epoch)):
        if (piece := parse_key(stored.key)) is not None:
            pieces.setdefault(piece.segment, []).append(piece)
    size = int(cluster.control_data(cluster.Server(app.cluster_bin, into, into))["Bytes per WAL segment"])
    sealer = _sealer(app, epoch)
    return sum(_restore_segment(store, sealer, stored, size, into) for stored in pieces.values())


def _restore_segment(store: s3.Bucket, sealer: Sealer, pieces: Sequence[Piece], size: int, into: Path) -> int:
    """Write one segment; returns the bytes of WAL in it."""
    with ThreadPoolExecutor(READERS) as pool:
        opened = dict(zip(pieces, pool.map(lambda piece: _fetch(store, sealer, piece), pieces), strict=True))
    segment = pieces[0].segment
    data = contiguous([piece[1:] for piece in pieces], lambda begin, end: opened[Piece(segment, begin, end)])[:size]
    if data:
        cluster.write_file(into / "pg_wal" / segment, data.ljust(size, b"\0"))
        # an incomplete segment must never be archived under the name of the segment
        cluster.write_file(into / "pg_wal/archive_status" / f"{segment}.done", b"")
    return len(data)


def _fetch(store: s3.Bucket, sealer: Sealer, piece: Piece) -> bytes | None:
    stored = store.get(prefix(store, sealer.epoch) + piece_key(piece))
    return sealer.open(piece, stored[0]) if stored else None


def _sealer(app: App, epoch: str) -> Sealer:
    backup, keys = settings.backup(app), settings.credentials(app)
    return Sealer(epoch, keys.encryption_key if backup.encrypted else None)


# ---------------------------------------------------------------------------------------------- the server


class Session:
    """A psql that stays connected."""

    def __init__(self, server: cluster.Server) -> None:
        argv: list[str | Path] = [server.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", server.socket]
        argv += ["-U", cluster.MONITOR, "-d", cluster.SUPERUSER]
        env = {**cluster.client_environment(), "PGAPPNAME": "hostctl tail", "PGCONNECT_TIMEOUT": "5"}
        env |= {"PGOPTIONS": cluster.session_options(server, cluster.MONITOR, {"statement_timeout": "0"})}
        pipe = subprocess.PIPE
        self._psql = subprocess.Popen(
            cluster.as_postgres(argv), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env, cwd="/", text=True
        )
        self._where = str(server.socket)

    def ask(self) -> ServerPosition | None:
        """The server's current position; None during recovery. Raises HostError when the server does not answer."""
        stdin, stdout = self._psql.stdin, self._psql.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):
            stdin.write(POSITION)
            stdin.flush()
        ready, _, _ = select.select([stdout], [], [], ANSWER)
        line = stdout.readline() if ready else ""
        if not line:
            raise HostError("PostgreSQL does not answer the WAL stream", self._where, "deploy backup status")
        return parse(line)

    def close(self) -> None:
        self._psql.kill()
        self._psql.communicate()


def start_position(wal: Directory, position: ServerPosition) -> int:
    """The position to start from: the archived one, or, if it is unknown, the first segment that is not archived."""
    if position.archived:
        return position.archived
    with wal.within("archive_status") as status, os.scandir(status.handle) as entries:
        waiting = sorted(entry.name[:24] for entry in entries if entry.name.endswith(".ready"))
    names = [name for name in waiting if SEGMENT.fullmatch(name) and int(name[:8], 16) == position.timeline]
    current = (position.flushed - 1) // position.size * position.size
    return min(current, segment_number(names[0], position.size) * position.size) if names else current


def read_piece(wal: Directory, piece: Piece, owner: User | None = None) -> bytes | None:
    """The bytes of a piece from the server's WAL; None when the segment is gone, and so archived.

    PostgreSQL renames an archived segment, then overwrites it: so the bytes count only if the file still has its name.
    Raises PermissionError for a link, and for a file that is not the owner's: it would go to the bucket.
    """
    try:
        with os.fdopen(wal.regular(piece.segment, owner), "rb") as file:
            file.seek(piece.begin)
            data = file.read(piece.end - piece.begin)
            same = os.fstat(file.fileno()).st_ino == _inode(wal, piece.segment)
    except FileNotFoundError:
        return None
    return data if same and len(data) == piece.end - piece.begin else None


def _inode(directory: Directory, name: str) -> int:
    handle = directory.open(name, os.O_PATH)
    try:
        return os.fstat(handle).st_ino
    finally:
        os.close(handle)


# ---------------------------------------------------------------------------------------------- sending


class Sender:
    """Sends the WAL of one timeline, and deletes the pieces that are archived."""

    def __init__(
        self, app: App, store: s3.Bucket, sealer: Sealer, position: ServerPosition, directory: Directory
    ) -> None:
        self.app, self.store, self.sealer, self.directory = app, store, sealer, directory
        self.owner = users.find(cluster.SUPERUSER) if os.geteuid() == 0 else None
        with directory.within(WAL) as wal:
            self.timeline, self.sent = position.timeline, start_position(wal, position)
        self.stored: list[Piece] | None = None  # None until the bucket was listed
        self.behind_since: float | None = None
        self.error: str | None = None
        self.written_at, self.written_position = 0.0, -1

    def step(self, position: ServerPosition) -> None:
        """Send new WAL, and delete archived pieces. After an error of S3, the next call tries again."""
        if position.flushed > max(self.sent, position.archived):
            self.behind_since = self.behind_since or time.time()
        before = (self.behind_since, self.error)
        try:
            self._send(position)
            self._remove(position)
            self.error = None
        except HostError as error:
            self.error = error.what
        self._write_state(position, before)

    def _send(self, position: ServerPosition) -> None:
        while (piece := next_piece(self.sent, position)) is not None:
            start = segment_number(piece.segment, position.size) * position.size
            with self.directory.within(WAL) as wal:
                data = read_piece(wal, piece, self.owner)
            if data is not None:
                self._publish_timeline()
                self.store.put(prefix(self.store, self.sealer.epoch) + piece_key(piece), self.sealer.seal(piece, data))
                self._stored_pieces().append(piece)
            elif position.archived <= start:
                # the segment was archived, and the statistics do not show it yet
                self.sent = start + position.size
                continue
            self.sent = start + piece.end
        self.sent = max(self.sent, position.archived)
        self.behind_since = None

    def _publish_timeline(self) -> None:
        """Publish the record of timelines: a restore uses only pieces of a timeline in that record."""
        if self.stored is None or self.error is not None:
            timelines.publish(self.app)

    def _stored_pieces(self) -> list[Piece]:
        """The pieces in the bucket; of other timelines only those older than the retention."""
        if self.stored is None:
            oldest = time.time() - settings.backup(self.app).retention
            objects = self.store.list(prefix(self.store, self.sealer.epoch))
            listed = [(parse_key(stored.key), stored.modified) for stored in objects]
            timeline = f"{self.timeline:08X}"
            self.stored = [p for p, at in listed if p is not None and (p.segment[:8] == timeline or at < oldest)]
        return self.stored

    def _remove(self, position: ServerPosition) -> None:
        stored = self._stored_pieces()
        archived = [piece for piece in stored if self._may_delete(piece, position)][:DELETIONS]
        for piece in archived:
            self.store.delete(prefix(self.store, self.sealer.epoch) + piece_key(piece))
            stored.remove(piece)

    def _may_delete(self, piece: Piece, position: ServerPosition) -> bool:
        other = piece.segment[:8] != f"{self.timeline:08X}"
        return other or (segment_number(piece.segment, position.size) + 1) * position.size <= position.archived

    def _write_state(self, position: ServerPosition, before: tuple[float | None, str | None]) -> None:
        """Write the state: at once when `behind_since` or `error` has changed, else at intervals."""
        now, interval = time.time(), BUSY if self.written_position != self.sent else IDLE
        if before == (self.behind_since, self.error) and now - self.written_at < interval:
            return
        state: StreamState = {
            "at": now,
            "epoch": self.sealer.epoch,
            "timeline": self.timeline,
            "sent": timelines.format_lsn(self.sent),
            "flushed": timelines.format_lsn(position.flushed),
            "behind_since": self.behind_since,
            "error": self.error,
        }
        write_json(self.app.backup / "tail.json", state, durable=False)
        self.written_at, self.written_position = now, self.sent


# ---------------------------------------------------------------------------------------------- the service


def stream(app: App, host: Host, stop: Callable[[], bool] = lambda: False) -> None:
    """Stream until `stop` returns true, through restarts of the server and failures of S3."""
    make_directory(app.backup, 0o700)
    while not stop():
        with suppress(HostError, OSError, zlib.error):
            _stream_session(app, host, stop)
        if not stop():
            host.sleep(RETRY)


def _stream_session(app: App, host: Host, stop: Callable[[], bool]) -> None:
    """Stream into this host's epoch as long as the server answers and the epoch stays the same."""
    own_epoch = epochs.local(app)
    if own_epoch is None:
        return
    store = s3.Bucket(settings.backup(app), settings.credentials(app), connect=3.0, total=20.0, tries=1)
    interval, sealer = settings.backup(app).interval, _sealer(app, own_epoch.epoch)
    sender: Sender | None = None
    session = Session(cluster.live_server(app))
    try:
        with Directory(app.cluster) as directory:
            while not stop():
                started = host.clock()
                position = session.ask()
                if position is not None:
                    if sender is None or sender.timeline != position.timeline:
                        sender = Sender(app, store, sealer, position, directory)
                    sender.step(position)
                    if sender.error is not None and not _is_own_epoch(app, own_epoch.epoch):
                        return
                host.sleep(max(RETRY if sender is None or sender.error else 0.0, interval - (host.clock() - started)))
    finally:
        session.close()


def _is_own_epoch(app: App, epoch: str) -> bool:
    own_epoch = epochs.local(app)
    return own_epoch is not None and own_epoch.epoch == epoch


def last_state(app: App) -> StreamState | None:
    """The state that the running WAL stream wrote last; None when it is out of date."""
    state = written_state(app)
    return state if state is not None and time.time() - state["at"] < FRESH else None


def written_state(app: App) -> StreamState | None:
    """The state that a WAL stream wrote last, however old; None without one."""
    return cast(StreamState | None, read_json(app.backup / "tail.json"))


def lag(app: App) -> float | None:
    """Seconds since the oldest write that may not be on S3; None when no WAL stream runs."""
    state = last_state(app)
    if state is None:
        return None
    since = state["behind_since"]
    return round(time.time() - since, 3) if since is not None else 0.0


def has_sent(app: App, timeline: int, at: int) -> bool:
    """Whether the WAL stream, or the archive, has all WAL of a timeline below a position."""
    state = last_state(app)
    return state is not None and state["timeline"] == timeline and timelines.parse_lsn(state["sent"]) >= at
