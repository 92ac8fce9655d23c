"""File writes that survive a power cut: the file is synced, renamed into place, and its directory is synced."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

from hostctl.common.documents import Json as Json


def write_atomic(path: Path, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the content of `path` by `data`.

    Without `durable` a power cut may restore the old content, but never leave a part of either.
    """
    part = path.with_name(f".{path.name}.new")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(handle, mode)
        with open(handle, "wb", closefd=False) as file:
            file.write(data)
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)
    part.replace(path)
    if durable:
        sync_directory(path.parent)


def write_json(path: Path, value: object, mode: int = 0o600, durable: bool = True) -> None:
    """`write_atomic` with a value as JSON."""
    write_atomic(path, json.dumps(value, separators=(",", ":")).encode(), mode, durable)


def read_json(path: Path) -> Json | None:
    """The JSON object in a file; None if there is no such file, or no valid JSON object in it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def point(link: Path, target: str) -> None:
    """Make the symlink point to `target`, by one rename."""
    part = link.with_name(f".{link.name}.new")
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(link)
    sync_directory(link.parent)


def unlink(path: Path) -> None:
    """Remove a file durably; one that does not exist is no error."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_json(path: Path, value: object, durable: bool = False) -> None:
    """Add one line of JSON to a file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, json.dumps(value, separators=(",", ":")).encode() + b"\n")
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(path: Path, after: int = 0) -> list[Json]:
    """The JSON lines of a file, without the first `after`. An incomplete last line is skipped."""
    try:
        lines = path.read_bytes().split(b"\n")[after:-1]
    except OSError:
        return []
    found: list[Json] = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def make_directory(path: Path, mode: int) -> None:
    """Make a directory, with parents, and set its mode regardless of the umask."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def remove_tree(path: Path) -> None:
    """Remove a directory tree; one that does not exist is no error."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a tree that may be gone already."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
