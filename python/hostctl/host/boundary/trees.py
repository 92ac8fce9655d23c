"""Moves, removes and gives files and trees beneath directories, through handles that follow no link.

Both ends may be a lesser user's, who can change every name beneath them meanwhile: he gains nothing by it, because a
link is moved and removed as a link, and only plain files with one name are read and given.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from hostctl.host.boundary.handles import Directory, give
from hostctl.host.boundary.users import User

_CALM = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_NOT_OPENED = (errno.ELOOP, errno.ENXIO)  # a link, a socket


def move(source: Directory, old: str, target: Directory, new: str, owner: User | None = None) -> None:
    """Move a file or tree durably, also to another file system. A source that does not exist is no error.

    Directories on the way to its new name are made, and are the owner's. Raises OSError.
    """
    if source.stat(old) is None:
        return
    make_parents(target, new, owner)
    if _is_directory(target.stat(new)):
        # an earlier move between file systems was interrupted after its copy: both ends have the whole tree
        remove(target, new)
    with source.parent(old) as (before, first), target.parent(new) as (after, last):
        try:
            os.rename(first, last, src_dir_fd=before, dst_dir_fd=after)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_and_remove(before, first, after, last)
        os.fsync(after)
        os.fsync(before)


def make_parents(directory: Directory, name: str, owner: User | None = None) -> None:
    """Make the directories on the way to a name that are missing; they are the owner's, else root's."""
    for parent in reversed(PurePosixPath(name).parents[:-1]):
        if directory.stat(str(parent)) is None:
            directory.make(str(parent))
            if owner is not None:
                directory.give(str(parent), owner)


def remove(directory: Directory, name: str) -> None:
    """Remove a file, a link itself or a tree; one that does not exist is no error."""
    if not _is_directory(directory.stat(name)):
        directory.unlink(name)
        return
    with directory.parent(name) as (parent, last), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(last, dir_fd=parent)


def give_up(directory: Directory, name: str, owner: User) -> None:
    """Give to the owner what is this process's user's of a tree: directories, and plain files with one name."""
    with _opened(directory.handle, name) as handle:
        _give_up(handle, owner)


def _give_up(handle: int, owner: User) -> None:
    found = os.fstat(handle)
    if stat.S_ISDIR(found.st_mode):
        for name in os.listdir(handle):
            with contextlib.suppress(FileNotFoundError), _passing_links(), _opened(handle, name) as below:
                _give_up(below, owner)
    plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if found.st_uid == os.geteuid() and (plain or stat.S_ISDIR(found.st_mode)):
        give(handle, owner, stat.S_IMODE(found.st_mode) & 0o777)


@contextlib.contextmanager
def _opened(parent: int, name: str, flags: int = _CALM) -> Iterator[int]:
    """A handle to what has a name in a directory; OSError (ELOOP) for a link."""
    handle = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _passing_links() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_OPENED:
            raise


def _is_directory(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISDIR(found.st_mode)


# ---------------------------------------------------------------------------------------------- another file system


def _copy_and_remove(before: int, first: str, after: int, last: str) -> None:
    part = f".{last}.part"
    _remove(after, part)
    _copy(before, first, after, part)
    os.rename(part, last, src_dir_fd=after, dst_dir_fd=after)
    _remove(before, first)


def _remove(parent: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if _is_directory(os.stat(name, dir_fd=parent, follow_symlinks=False)):
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)


def _copy(source: int, name: str, target: int, new: str) -> None:
    """Copy a file, a link or a tree with owners and modes. Sockets and the like are no data, and are left out."""
    mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
    elif stat.S_ISDIR(mode):
        os.mkdir(new, 0o700, dir_fd=target)
        with _opened(source, name) as reading, _opened(target, new) as writing:
            for each in os.listdir(reading):  # noqa: PTH208 - of a handle
                _copy(reading, each, writing, each)
            _copy_owner(reading, writing)
            os.fsync(writing)
    elif stat.S_ISREG(mode):
        with _opened(source, name) as reading, _opened(target, new, _NEW) as writing:
            _copy_bytes(reading, writing)
            _copy_owner(reading, writing)
            os.fsync(writing)


def _copy_owner(reading: int, writing: int) -> None:
    found = os.fstat(reading)
    os.fchown(writing, found.st_uid, found.st_gid)
    os.fchmod(writing, stat.S_IMODE(found.st_mode) & 0o777)


def _copy_bytes(reading: int, writing: int) -> None:
    """Copy the bytes of a plain file. The kernel shares blocks where the file system can (btrfs, XFS).

    Raises PermissionError for another kind of file.
    """
    found = os.fstat(reading)
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(errno.EPERM, "not a plain file")
    left = found.st_size
    with contextlib.suppress(OSError):
        while left > 0 and (done := os.copy_file_range(reading, writing, left)):
            left -= done
    # the kernel may stop early: copy the rest from where both files stand
    with open(reading, "rb", closefd=False) as source, open(writing, "wb", closefd=False) as target:
        shutil.copyfileobj(source, target, _CHUNK)
