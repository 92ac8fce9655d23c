"""The lock of an app: a flock, which ends with the process that holds it; lock.json says who holds it.

A person can also lock by hand: such a lock is in lock.json alone, and lasts until it is released.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hostctl.common.errors import LOCKED, HostError
from hostctl.common.files import Json, read_json, unlink, write_json
from hostctl.common.timestamps import utc
from hostctl.core.paths import App

POLL = 0.02
ENDING = "ending"  # the phase of a transition whose result is already known
STARTING = "starting"  # the lock is taken, and lock.json not yet written
MOMENT = 10.0  # seconds to wait for a holder that is ending or starting, whatever the caller asked for


class Flock:
    """A context manager that holds an exclusive flock on a file.

    Raises BlockingIOError when it cannot get it within `wait` seconds.
    """

    def __init__(self, path: Path, wait: float = 0.0) -> None:
        self.path, self.wait = path, wait
        self.handle = -1

    def __enter__(self) -> Flock:
        self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self.wait
        while True:
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(self.handle)
                    raise
            time.sleep(POLL)

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)


@contextlib.contextmanager
def hold(path: Path, busy: HostError, wait: float = 0.0) -> Iterator[None]:
    """Hold a flock in the block. Raises `busy` when another process still holds it after `wait` seconds."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Flock(path, wait))
        except BlockingIOError:
            raise busy from None
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds the flock. This takes a shared lock for an instant, so takers must wait."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def holder(app: App) -> Json | None:
    """The content of lock.json for the current holder; None when the lock is free, even if a killed holder left it."""
    state = read_json(app.lock_json)
    if state is not None and state.get("manual"):
        return state
    if is_held(app.lock):
        return state or {
            "who": "",
            "from": "",
            "verb": "",
            "phase": STARTING,
            "since": time.time(),
            "manual": False,
        }
    return None


def refusal(app: App, state: Json) -> HostError:
    """The error for a second caller while the lock is held."""
    since = utc(float(state.get("since") or 0))
    who = f"{state.get('who') or 'somebody'} (from {state.get('from') or 'an unknown address'})"
    if state.get("manual"):
        what = f"{app.name} is locked by {who} since {since}: {state.get('message') or 'no reason given'}"
        return HostError(what, str(app.lock_json), "deploy lock release", LOCKED)
    what = f"{who} is at work on {app.name}: {state.get('verb')}, step {state.get('phase')}, since {since}"
    return HostError(what, str(app.lock), "deploy attach, or try again with --lock-wait", LOCKED)


def wait_until_free(app: App, wait: float) -> None:
    """Wait at most `wait` seconds until the lock is free. Raises HostError (locked); at once for a manual lock."""
    begun = time.monotonic()
    while (state := holder(app)) is not None:
        longest = max(wait, MOMENT) if state.get("phase") in (ENDING, STARTING) else wait
        if state.get("manual") or time.monotonic() - begun >= longest:
            raise refusal(app, state)
        time.sleep(POLL)


@contextlib.contextmanager
def exclusive(app: App, wait: float = 0.0, start_wait: float = 2.0) -> Iterator[None]:
    """Keep every other transition of the app from beginning or running inside the block.

    Waits at most `wait` seconds for the lock, and `start_wait` seconds for another process that is about to take it.
    Raises HostError (locked).
    """
    begun = time.monotonic()
    try:
        with Flock(app.start_lock, wait=start_wait):
            wait_until_free(app, max(0.0, wait - (time.monotonic() - begun)))
            yield
    except BlockingIOError:
        raise refusal(app, holder(app) or {"since": time.time()}) from None


def update(app: App, state: Json) -> None:
    """Write lock.json for a running transition. The flock decides, so the file need not survive a power cut."""
    write_json(app.lock_json, state, durable=False)


def acquire(app: App, who: str, origin: str, message: str) -> Json:
    """Lock by hand, until `release`. Returns the content of lock.json. Raises HostError (locked)."""
    with exclusive(app):
        state = {
            "who": who,
            "from": origin,
            "verb": "lock",
            "release": None,
            "phase": "manual",
            "since": time.time(),
        }
        state |= {"message": message, "manual": True}
        write_json(app.lock_json, state)
    return state


def release(app: App, who: str, force: bool) -> Json | None:
    """Undo `acquire`.

    Returns the lock that was released, None when there was none. Raises HostError (locked).
    """
    state = read_json(app.lock_json)
    if state is None or not state.get("manual"):
        running = holder(app)
        if running is not None:
            raise refusal(app, running)
        return None
    if state.get("who") != who and not force:
        error = refusal(app, state)
        raise HostError(error.what, error.where, "deploy lock release --force", LOCKED)
    unlink(app.lock_json)
    return state
