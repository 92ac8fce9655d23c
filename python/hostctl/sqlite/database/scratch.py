"""Directories of the app's user, beneath one of root's: databases are restored, copied and checked in them.

Their own name is root's, so they stay where they are; beneath them the app's user can change everything. So root puts
in and takes out single files, through handles.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hostctl.common import files
from hostctl.host.boundary import handles, trees
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.sqlite.database import owner


def make(path: Path, user: str) -> None:
    """Make the directory anew, empty, for the app's user alone."""
    files.remove_tree(path)
    with Directory(path.parent) as parent:
        parent.make(path.name)
        parent.give(path.name, owner.find(user))


@contextlib.contextmanager
def opened(path: Path, user: str) -> Iterator[Path]:
    """The directory, made anew and removed at the end of the block."""
    make(path, user)
    try:
        yield path
    finally:
        files.remove_tree(path)


def take(scratch: Path, name: str, target: Path, user: str) -> None:
    """Move a file of a scratch directory to a directory of root's; it is root's then. Raises OSError.

    What it is, is asked where the app's user can no longer exchange it: a plain file of that user's.
    """
    with handles.owned(scratch) as source, Directory(target.parent) as kept:
        trees.move(source, name, kept, target.name)
        try:
            handle = kept.regular(target.name, owner.find(user))
        except OSError:
            trees.remove(kept, target.name)
            raise
        try:
            handles.give(handle, User("", os.geteuid(), os.getegid(), ()), 0o600)
        finally:
            os.close(handle)


def put(source: Path, scratch: Path, name: str, user: str) -> None:
    """Move a file of a directory of root's to a scratch directory; it is the app's user's then. Raises OSError."""
    account = owner.find(user)
    with Directory(source.parent) as mine, handles.owned(scratch) as target:
        handle = mine.regular(source.name)
        try:
            handles.give(handle, account, 0o600)
        finally:
            os.close(handle)
        trees.move(mine, source.name, target, name, account)
