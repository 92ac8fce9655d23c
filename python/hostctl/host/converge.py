"""Directories and files as the roles describe them: made, or corrected, where the host differs.

One call does many: most of the time of a provisioning over SSH goes into starting a program for each file. What lies in
a directory that a lesser user can exchange is refused, and no link is followed.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NotRequired, TypedDict

from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.schema import argument, flag, list_of, mistakes, name, text
from hostctl.host.boundary.handles import Directory, UntrustedError, give
from hostctl.host.boundary.users import User, find, run_as

_MOVE = "move it away, then deploy provision"


class Entry(TypedDict):
    """A directory, or with `content` a file. `mode` is octal.

    `validate` is a command that accepts the file, whose path replaces `%s`, by its exit status 0.
    """

    path: str
    owner: str
    group: str
    mode: str
    content: NotRequired[str]
    validate: NotRequired[list[str]]


class Change(TypedDict):
    """What was made, corrected or removed. `before` is what the file held; None if there was no file."""

    path: str
    before: str | None


Act = Callable[[Directory, Path, bool], Change | None]


class Spec(TypedDict):
    """What the host is to have, and not to have; with `check` nothing is changed.

    With a `user` other than root it is that user who does it, in directories that are his or root's.
    """

    directories: list[Entry]
    files: list[Entry]
    absent: list[str]
    check: bool
    user: str


_ENTRY: Json = {"path": name("path"), "owner": name("line"), "group": name("line"), "mode": name("mode")}
_FILE: Json = {**_ENTRY, "content": text, "validate": list_of(argument)}
SPEC: Json = {
    "directories": list_of(lambda entry: not mistakes(_ENTRY, entry)),
    "files": list_of(lambda entry: not mistakes(_FILE, {"validate": [], **entry})),
    "absent": list_of(name("path")),
    "check": flag,
    "user": name("line"),
}


def converge(spec: Spec) -> list[Change]:
    """Remove, make and correct, in this order: absent, directories, files. Returns what differed.

    Raises HostError for what is there and of another kind, for a user or group that is not there, for a place that a
    lesser user can exchange, and for a file that its command does not accept. A link that only root can exchange may
    stand for a directory.
    """
    return _converge(spec) if spec["user"] == "root" else _as_user(spec)


def _as_user(spec: Spec) -> list[Change]:
    user, paths = spec["user"], [entry["path"] for entry in (*spec["directories"], *spec["files"])]
    try:
        return run_as(find(user), partial(_converge, spec))
    except PermissionError:
        what, place = f"{user} may not write what is the user's own", ", ".join(paths)
        raise HostError(what, place, f"see whose it is and where it leads: ls -ld {' '.join(paths)}") from None


def _converge(spec: Spec) -> list[Change]:
    acts: list[tuple[str, Act]] = [(path, _absent) for path in spec["absent"] if Path(path).parent.is_dir()]
    acts += [(entry["path"], partial(_directory, entry)) for entry in spec["directories"]]
    acts += [(entry["path"], partial(_entry, entry)) for entry in spec["files"]]
    changes = [_differing(Path(path), act, spec["check"]) for path, act in acts]
    return [change for change in changes if change]


def _differing(path: Path, act: Act, check: bool) -> Change | None:
    """What `act` finds, and unless `check` changes, in the directory of the path."""
    if check and not path.parent.is_dir():
        return _change(path, None)
    try:
        with Directory(path.parent) as parent:
            return act(parent, path, check)
    except UntrustedError as error:
        what = f"root does not write {path}: another user than root can change {error.filename}"
        fix = f"chown root {error.filename}; chmod go-w {error.filename}"
        raise HostError(what, str(error.filename), fix) from None


def _directory(entry: Entry, parent: Directory, path: Path, check: bool) -> Change | None:
    """As `_entry`; root may have put the directory elsewhere, and a link in its place."""
    if not path.is_symlink():
        return _entry(entry, parent, path, check)
    elsewhere = path.resolve()
    with Directory(elsewhere.parent) as its_parent:
        return _entry(entry, its_parent, elsewhere, check)


def _entry(entry: Entry, parent: Directory, path: Path, check: bool) -> Change | None:
    owner, mode = _owner(entry), int(entry["mode"], 8)
    content = entry["content"].encode() if "content" in entry else None
    with _present(parent, path, stat.S_ISDIR if content is None else stat.S_ISREG) as handle:
        before = _content(handle) if handle is not None and content is not None else None
        if handle is not None and before == content:
            return _corrected(handle, entry, owner, mode, check)
    if not check and content is None:
        parent.make(path.name)
        parent.give(path.name, owner, mode)
    elif content is not None:
        _validate(entry, path, content)
        if not check:
            parent.write(path.name, content, owner, mode)
    return _change(path, before)


def _validate(entry: Entry, path: Path, content: bytes) -> None:
    """Raise HostError if the command of the entry does not accept the content."""
    if not entry.get("validate"):
        return
    with tempfile.TemporaryDirectory(dir="/run", prefix="homeport-validate-") as private:
        file = Path(private) / path.name
        file.write_bytes(content)
        argv = [str(file) if word == "%s" else word for word in entry["validate"]]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-500:]
        raise HostError(f"{argv[0]} does not accept what {path} would be: {said}", str(path), "see what it says")


def _absent(parent: Directory, path: Path, check: bool) -> Change | None:
    with _present(parent, path, stat.S_ISREG) as handle:
        if handle is None:
            return None
        before = _content(handle)
    if not check:
        parent.unlink(path.name)
    return _change(path, before)


def _corrected(handle: int, entry: Entry, owner: User, mode: int, check: bool) -> Change | None:
    """Set owner, group and mode where they differ."""
    found = os.fstat(handle)
    if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner.uid, owner.gid, mode):
        return None
    if not check:
        give(handle, owner, mode)
    return Change(path=entry["path"], before=entry.get("content"))


@contextlib.contextmanager
def _present(parent: Directory, path: Path, is_kind: Callable[[int], bool]) -> Iterator[int | None]:
    """A handle to what is there; None if nothing is. Raises HostError for another kind, a link among them."""
    try:
        handle = parent.open(path.name)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise HostError(f"{path} cannot be opened: {error.strerror}", str(path), _MOVE) from None
    try:
        if not is_kind(os.fstat(handle).st_mode):
            raise HostError(f"{path} is not what provisioning would make there", str(path), _MOVE)
        yield handle
    finally:
        os.close(handle)


def _content(handle: int) -> bytes:
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read()


def _change(path: Path, before: bytes | None) -> Change:
    return Change(path=str(path), before=None if before is None else before.decode(errors="replace"))


def _owner(entry: Entry) -> User:
    with contextlib.suppress(KeyError):
        return User(entry["owner"], pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid, ())
    what = f"there is no user {entry['owner']}, or no group {entry['group']}"
    raise HostError(what, entry["path"], "report this: a role that makes the user must come first")
