"""Receives an artifact in pieces as a zstd stream. It is accepted only when its tar has the announced digest."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypedDict

from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import file_digest, make_directory, read_json, sync_directory, write_json
from hostctl.common.names import matches
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.host import disk

PIECE = 1 << 20
RESERVE = 64 << 20  # bytes that an upload leaves free for the journal and the app
SILENCE = 15.0  # seconds without data until an upload fails; ssh on the laptop fails after as many


class PartialUpload(TypedDict):
    """An upload in progress: the received bytes, and the SHA-256 of the whole stream."""

    bytes: int
    transfer: str | None


class Received(TypedDict):
    """The number of received bytes of a transfer, and whether it is complete."""

    held: int
    complete: bool


class Upload:
    """The files of an upload in progress: the received bytes, and the transfer that they belong to."""

    def __init__(self, app: App, digest: str) -> None:
        self.digest = digest
        self.tar = app.artifact(digest)
        self.part = app.artifacts / f"{digest}.part"
        self.about = app.artifacts / f"{digest}.part.json"

    def received(self, transfer: str) -> int:
        """The number of received bytes of that transfer."""
        about = read_json(self.about)
        if about is None or about.get("transfer") != transfer:
            return 0
        return self.part.stat().st_size if self.part.exists() else 0

    def delete(self) -> None:
        """Delete the received bytes."""
        for path in (self.part, self.about):
            path.unlink(missing_ok=True)


def artifact_digests(app: App) -> list[str]:
    """The digests of the complete artifacts, newest first."""
    tars = [path for path in app.artifacts.glob("*.tar") if matches("digest", path.stem)]
    return [path.stem for path in sorted(tars, key=lambda path: path.stat().st_mtime, reverse=True)]


def partial(app: App) -> dict[str, PartialUpload]:
    """The uploads in progress, by digest: `bytes` received, and the `transfer`."""
    uploads: dict[str, PartialUpload] = {}
    for path in app.artifacts.glob("*.part"):
        about = read_json(path.with_name(path.name + ".json"))
        if about is not None and matches("digest", path.stem):
            uploads[path.stem] = {"bytes": path.stat().st_size, "transfer": about.get("transfer")}
    return uploads


def receive(
    app: App, digest: str, transfer: str, offset: int, total: int, base: str | None, stream: IO[bytes]
) -> Received:
    """Receive one piece of a transfer from `stream`; when it is complete, decode and check it. Raises HostError.

    Returns `held`, the number of received bytes, and `complete`.
    """
    make_directory(app.artifacts, 0o700)
    upload = Upload(app, digest)
    if upload.tar.exists():
        return {"held": total, "complete": True}
    busy = HostError("another upload to this app is running", str(upload.part), "try again when it has ended", FAILED)
    with lock.hold(app.artifacts / ".receiving", busy, SILENCE + 2):
        return _receive(app, upload, transfer, offset, total, base, stream)


def _receive(
    app: App, upload: Upload, transfer: str, offset: int, total: int, base: str | None, stream: IO[bytes]
) -> Received:
    have = upload.received(transfer)
    if offset != have and offset != 0:
        raise HostError(
            f"the piece begins at {offset}, but the host has {have} bytes",
            str(upload.part),
            f"send from {have}",
            FAILED,
        )
    if offset == 0:
        _begin(app, upload, transfer, total)
    have = _append(upload, offset, total, stream)
    if have < total:
        return {"held": have, "complete": False}
    _finish(app, upload, transfer, base)
    return {"held": have, "complete": True}


def _begin(app: App, upload: Upload, transfer: str, total: int) -> None:
    disk.require_space(app.artifacts, total + RESERVE, "the upload")
    upload.delete()
    write_json(upload.about, {"transfer": transfer, "total": total})


def _append(upload: Upload, offset: int, total: int, stream: IO[bytes]) -> int:
    """Append the data of the stream, at most the announced `total`; returns the number of bytes received by then."""
    have = offset
    with upload.part.open("ab") as part:
        while piece := _read(stream, upload.part):
            if have + len(piece) > total:
                what = f"the upload is longer than the announced {total} bytes"
                raise HostError(what, str(upload.part), "send it again", USAGE)
            part.write(piece)
            have += len(piece)
    return have


def _read(stream: IO[bytes], part: Path) -> bytes:
    """The next data of the stream. Raises HostError after SILENCE seconds without any: the connection is dead."""
    if not select.select([stream], [], [], SILENCE)[0]:
        what = f"no data arrived for {SILENCE:g} s"
        raise HostError(what, str(part), "push again; the upload continues from there", FAILED)
    return os.read(stream.fileno(), PIECE)


def _finish(app: App, upload: Upload, transfer: str, base: str | None) -> None:
    """Check the stream, decode it, check the tar, and then give the tar its name. Raises HostError."""
    fresh = upload.tar.with_name(f"{upload.digest}.tar.new")
    try:
        if file_digest(upload.part) != transfer:
            raise HostError("the upload was damaged on the way", str(upload.part), "push again", FAILED)
        if _decode(app, upload.part, fresh, base) != upload.digest:
            raise HostError(
                "the artifact does not have the digest it was announced with",
                str(upload.tar),
                "push again",
                FAILED,
            )
        fresh.replace(upload.tar)
        sync_directory(app.artifacts)
    finally:
        fresh.unlink(missing_ok=True)
        upload.delete()


def _decode(app: App, part: Path, out: Path, base: str | None) -> str:
    """Decompress into `out` and sync it; returns its SHA-256. Raises HostError, also before the disk is full."""
    command = [
        "zstd",
        "-d",
        "-q",
        "-c",
        "--long=31",
        *([f"--patch-from={_base(app, base)}"] if base else []),
        "--",
        str(part),
    ]
    hashed = hashlib.sha256()
    with (
        out.open("wb") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - a pipe
        assert process.stderr is not None  # noqa: S101 - a pipe
        try:
            for piece in _pieces(app, process.stdout):
                hashed.update(piece)
                file.write(piece)
        except BaseException:
            process.kill()
            raise
        reason = process.stderr.read(2000).decode(errors="replace").strip()
        file.flush()
        os.fsync(file.fileno())
    if process.returncode != 0:
        raise HostError(f"the upload cannot be decompressed: {reason}", str(part), "push again", FAILED)
    return hashed.hexdigest()


def _base(app: App, base: str | None) -> Path:
    """The artifact from which the upload differs. Raises HostError when the host does not have it."""
    tar = app.artifact(base or "")
    if not tar.is_file():
        raise HostError(
            f"the host no longer has the artifact {base}, the base of the upload", str(tar), "send it whole", FAILED
        )
    return tar


def _pieces(app: App, stream: IO[bytes]) -> Iterator[bytes]:
    for number, piece in enumerate(iter(lambda: stream.read(PIECE), b"")):
        if number % 16 == 0 and disk.space(app.artifacts)["free"] < RESERVE:
            raise HostError(
                "the disk is full: the artifact does not fit",
                str(app.artifacts),
                "free some space on the host",
                FAILED,
            )
        yield piece
