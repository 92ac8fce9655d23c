"""Files beneath a directory, through handles that follow no link.

A path that a lesser user can change may lead elsewhere at every look. A handle stays what it was when it was opened, so
owner, mode and content are asked and set on handles alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType

from hostctl.host.boundary import kernel
from hostctl.host.boundary.users import User

_DIRECTORY = os.O_DIRECTORY | os.O_RDONLY
# a FIFO would keep the one who opens it waiting, and a terminal would become the process's own
_CALM = os.O_NONBLOCK | os.O_NOCTTY
_MOST_LINKS = 40  # as the kernel follows
_MISSING = (errno.ENOSYS, errno.EPERM)  # openat2 before Linux 5.6, and where a filter of system calls does not know it


class UntrustedError(PermissionError):
    """A lesser user can exchange a part of a path; that part is the file name of the error."""


class Directory:
    """A directory, and what lies beneath it. Names may have slashes; one with `..` or of another place is refused.

    Every method raises OSError for a link anywhere beneath the directory, and for what leads outside of it.
    """

    def __init__(self, path: Path, handle: int | None = None) -> None:
        """Open a directory by its path, which is resolved as ever: no lesser user may own a part of it. With a handle
        the path is but its name.

        Raises UntrustedError if the directory is not root's or this process's user's, or others can write to it.
        """
        self.path = path
        self.handle = _trusted(path) if handle is None else handle

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.handle)

    # ------------------------------------------------------------------------------------------ handles

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """A handle to what is there now, of any kind; the caller closes it."""
        path, flags = _relative(name), flags if flags & os.O_PATH else flags | _CALM
        try:
            return kernel.open_beneath(self.handle, path, flags, mode if flags & os.O_CREAT else 0)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            return _open_by_steps(self.handle, path, flags, mode)

    def regular(self, name: str, owner: User | None = None) -> int:
        """A handle that reads a regular file; the caller closes it.

        Raises PermissionError for another kind of file, for one with a second name, and for one that is not `owner`'s.
        """
        handle = self.open(name)
        found = os.fstat(handle)
        foreign = owner is not None and found.st_uid != owner.uid
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or foreign:
            os.close(handle)
            raise PermissionError(errno.EPERM, "not a plain file of its own", str(self.path / name))
        return handle

    def stat(self, name: str) -> os.stat_result | None:
        """What is there now, a link itself and not what it leads to; None if nothing is."""
        try:
            with self.parent(name) as (parent, last):
                return os.stat(last, dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self) -> list[str]:
        """The names in this directory."""
        return sorted(os.listdir(self.handle))  # noqa: PTH208 - of a handle

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[Directory]:
        """The directory beneath this one."""
        with Directory(self.path / name, self.open(name, _DIRECTORY)) as found:
            yield found

    # ------------------------------------------------------------------------------------------ changes

    def write(self, name: str, data: bytes, owner: User | None = None, mode: int = 0o600) -> None:
        """Replace a file, durably, by one that is the owner's (root's without one). Nobody sees a part of it."""
        with self.parent(name) as (parent, last):
            part = f".{last}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=parent)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                give(handle, owner, mode)
                os.fsync(handle)
            os.rename(part, last, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)

    def make(self, name: str) -> None:
        """Make a directory, which must not be there yet, of which only this process's user can read anything."""
        with self.parent(name) as (parent, last):
            os.mkdir(last, 0o700, dir_fd=parent)

    def give(self, name: str, owner: User, mode: int = 0o700) -> None:
        """Set owner and mode of a directory."""
        handle = self.open(name, _DIRECTORY)
        try:
            give(handle, owner, mode)
        finally:
            os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Rename what is there, a link itself and not what it leads to."""
        with self.parent(old) as (source, before), self.parent(new) as (target, after):
            os.rename(before, after, src_dir_fd=source, dst_dir_fd=target)

    def unlink(self, name: str) -> None:
        """Remove a file or a link; one that is not there is no error."""
        with self.parent(name) as (parent, last), contextlib.suppress(FileNotFoundError):
            os.unlink(last, dir_fd=parent)

    @contextlib.contextmanager
    def parent(self, name: str) -> Iterator[tuple[int, str]]:
        """A handle to the directory in which a name is, and its last part."""
        path = PurePosixPath(_relative(name))
        handle = self.open(str(path.parent), _DIRECTORY) if len(path.parts) > 1 else os.dup(self.handle)
        try:
            yield handle, path.name
        finally:
            os.close(handle)


@contextlib.contextmanager
def owned(path: Path) -> Iterator[Directory]:
    """A directory of a lesser user's, whose name is in a directory of root's.

    A link of that name is root's, and counts as what it leads to. Raises OSError.
    """
    real = Path(os.path.realpath(path))
    with Directory(real.parent) as parent, parent.within(real.name) as found:
        yield found


def _trusted(path: Path) -> int:
    """A handle to a directory, no part of whose path a lesser user can exchange. A link counts as what it leads to.

    Raises UntrustedError, with that part as its file name, for one that is neither root's nor this process's own, and
    for one in which others may write.
    """
    _check_trusted(path.absolute())
    return os.open(path, _DIRECTORY | os.O_CLOEXEC)


def _check_trusted(path: Path, links: int = 0) -> None:
    for part in (*reversed(path.parents), path):
        found = part.lstat()
        if stat.S_ISLNK(found.st_mode) and links < _MOST_LINKS:
            _check_trusted(part.parent / part.readlink(), links + 1)
        elif found.st_uid not in (0, os.geteuid()) or _others_write(found):
            raise UntrustedError(errno.EPERM, "another user can change the directory", str(part))


def _others_write(found: os.stat_result) -> bool:
    """Whether others may exchange what lies in a directory; with the sticky bit each only what is theirs."""
    return bool(found.st_mode & (stat.S_IWOTH | stat.S_IWGRP)) and not found.st_mode & stat.S_ISVTX


def give(handle: int, owner: User | None, mode: int) -> None:
    """Set owner and mode of what a handle leads to; without an owner the mode alone."""
    os.fchmod(handle, mode)
    if owner is not None:
        os.fchown(handle, owner.uid, owner.gid)


def _relative(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise OSError(errno.EXDEV, "the path leads out of its directory", name)
    return str(path)


def _open_by_steps(directory: int, path: str, flags: int, mode: int) -> int:
    """`kernel.open_beneath` without openat2: each part is opened from its parent's handle, and none may be a link."""
    *parents, last = PurePosixPath(path).parts
    handle = os.dup(directory)
    try:
        for name in parents:
            handle = _step(handle, name)
        return _not_a_link(os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=handle), last)
    finally:
        os.close(handle)


def _step(handle: int, name: str) -> int:
    """A handle to the directory `name`, in place of that to its parent. Raises OSError."""
    below = _not_a_link(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle), name)
    os.close(handle)
    return below


def _not_a_link(handle: int, name: str) -> int:
    """The handle. Raises OSError for one to a link itself, which O_PATH gives."""
    if stat.S_ISLNK(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return handle
