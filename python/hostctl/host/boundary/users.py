"""Work as a lesser user: which user it is, and a child process that is nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn, TypeVar

from hostctl.common.errors import FAILED, HostError
from hostctl.host.boundary import kernel

T = TypeVar("T")
PATIENCE = 60.0  # seconds for the work of a child, where the caller names none
STANDARD = (0, 1, 2)


class User(NamedTuple):
    """A lesser user of the host, with the groups that it has by itself."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find(name: str) -> User:
    """The user of that name. Raises HostError if there is none, and for root and its group."""
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError, TypeError):
        raise HostError(f"there is no user {name}", "/etc/passwd", "deploy provision") from None
    if found.pw_uid == 0 or found.pw_gid == 0:
        raise HostError(f"the user {name} is root", "/etc/passwd", "give the app a user of its own; deploy provision")
    return User(name, found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)))


def become(user: User) -> None:
    """Make this process the user's, for good.

    It has the user's IDs and groups alone, no capability, and gains none by what it starts. It dumps no core, the
    user's other processes cannot trace it, and its directory is /. Raises OSError if anything of this cannot be done:
    the process must end then.
    """
    os.chdir("/")
    os.umask(0o077)
    kernel.forbid_new_privileges()
    if os.geteuid() == 0:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    kernel.drop_capabilities()
    kernel.hide_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3:
        raise PermissionError(f"this process cannot become {user.name}")


def command_as(user: str, argv: Sequence[str]) -> list[str]:
    """The command by which root runs a program as a lesser user: setpriv(1) takes away what `become` does."""
    drop = ["--init-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    return ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", *drop, "--", *argv]


class Child:
    """A child process that works as a lesser user. What it answers is JSON: nothing of it is run."""

    def __init__(self, pid: int, answer: int, user: User) -> None:
        self._pid, self._answer, self._user = pid, answer, user

    def result(self, seconds: float | None = PATIENCE) -> object:
        """What the work returned; None as `seconds` waits for it without a limit.

        Raises the HostError or OSError that the work raised, and HostError if the child ended without an answer or has
        none in time.
        """
        try:
            text = self._read(seconds)
        finally:
            self.end()
        try:
            return _opened(json.loads(text))
        except ValueError:
            what = f"the work as {self._user.name} ended without a result or took too long"
            raise HostError(what, f"a process of {self._user.name}", "try again", FAILED) from None

    def _read(self, seconds: float | None) -> bytes:
        begun, parts = time.monotonic(), []
        while select.select([self._answer], [], [], _left(seconds, begun))[0]:
            part = os.read(self._answer, 1 << 16)
            parts.append(part)
            if not part:
                return b"".join(parts)
        return b""

    @property
    def runs(self) -> bool:
        """Whether the work has not ended yet."""
        return bool(self._pid) and not select.select([self._answer], [], [], 0)[0]

    def end(self) -> None:
        """End the child, if it still runs."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._answer)
            self._pid = 0


def _left(seconds: float | None, begun: float) -> float | None:
    return None if seconds is None else max(0.0, begun + seconds - time.monotonic())


def run_as(user: User, work: Callable[[], T], seconds: float | None = PATIENCE, keep: Sequence[int] = ()) -> T:
    """Do the work in a child process that is the user, and return its result, which must be a JSON value.

    Raises what `Child.result` raises.
    """
    return start_as(user, work, keep).result(seconds)  # type: ignore[return-value]


def start_as(user: User, work: Callable[[], object], keep: Sequence[int] = ()) -> Child:
    """Begin the work in a child process that is the user.

    The child has standard input, output and error and the handles of `keep`, no other, and ends with this process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    answer, end = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _work(user, work, end, {*STANDARD, *keep, end}, parent)
    os.close(end)
    return Child(pid, answer, user)


def _work(user: User, work: Callable[[], object], end: int, keep: set[int], parent: int) -> NoReturn:
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _close_all_but(keep)
        _send(end, _answer(lambda: _as_user(user, work, parent)))
    finally:
        os._exit(0)  # nothing that the parent has begun is flushed or undone here


def _as_user(user: User, work: Callable[[], object], parent: int) -> object:
    become(user)
    kernel.end_with_parent()
    return work() if os.getppid() == parent else None


def _close_all_but(keep: set[int]) -> None:
    kept = sorted(keep)
    for low, high in zip([-1, *kept], [*kept, 1 << 30], strict=True):
        if low + 1 < high:  # an empty range from 0 would be every handle
            os.closerange(low + 1, high)


def _send(end: int, text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[os.write(end, left) :]


def _answer(work: Callable[[], object]) -> bytes:
    """The JSON of what the work returns or raises."""
    try:
        return json.dumps({"result": work()}).encode()
    except OSError as error:
        return json.dumps({"errno": error.errno or 0, "text": error.strerror or str(error)}).encode()
    except HostError as error:
        return json.dumps({"error": error.as_dict(), "reason": error.reason}).encode()
    except Exception as error:
        told = HostError(f"the work as another user failed: {type(error).__name__}: {error}", "hostctl", "try again")
        return json.dumps({"error": told.as_dict(), "reason": ""}).encode()


def _opened(answer: object) -> object:
    """The result in the JSON of `_answer`. Raises the error in it, and ValueError for anything else."""
    if isinstance(answer, dict) and "error" in answer:
        raise HostError(**answer["error"], reason=answer["reason"])
    if isinstance(answer, dict) and "errno" in answer:
        raise OSError(answer["errno"], answer["text"])
    if not isinstance(answer, dict) or "result" not in answer:
        raise ValueError("no answer of a child")
    return answer["result"]
