"""The lock: a flock that dies with its holder; beside it lock.json tells who holds it, or that a person
locked by hand.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from hostctl.common.errors import LOCKED, HostError
from hostctl.common.files import Json, read_json, unlink, write_json
from hostctl.common.timestamps import utc
from hostctl.core.paths import App

POLL = 0.02
ENDING = "ending"  # the phase of a transition whose result is known already
STARTING = "starting"  # the lock is taken, and nothing told yet
MOMENT = 10.0  # seconds that a holder who is about to let go, or has just begun, is waited for


class Flock:
    """An exclusive flock on a file, as long as the block lasts.

    Raises BlockingIOError after `wait` seconds.
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


def is_held(path: Path) -> bool:
    """Whether somebody holds the flock. A shared lock is tried, which takers of the real one outwait."""
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
    """Who holds the lock now; None when it is free. What a killed holder left behind does not count."""
    told = read_json(app.lock_json)
    if told is not None and told.get("manual"):
        return told
    if is_held(app.lock):
        return told or {
            "who": "",
            "from": "",
            "verb": "",
            "phase": STARTING,
            "since": time.time(),
            "manual": False,
        }
    return None


def refusal(app: App, told: Json) -> HostError:
    """The error of whoever comes second."""
    since = utc(float(told.get("since") or 0))
    who = f"{told.get('who') or 'somebody'} (from {told.get('from') or 'an unknown address'})"
    if told.get("manual"):
        what = f"{app.name} is locked by {who} since {since}: {told.get('message') or 'no reason given'}"
        return HostError(what, str(app.lock_json), "deploy lock release", LOCKED)
    what = f"{who} is at work on {app.name}: {told.get('verb')}, step {told.get('phase')}, since {since}"
    return HostError(what, str(app.lock), "deploy attach, or try again with --lock-wait", LOCKED)


def wait_until_free(app: App, wait: float) -> None:
    """Return when nobody holds the lock. A manual lock is never waited for. Raises HostError (locked)."""
    begun = time.monotonic()
    while (told := holder(app)) is not None:
        longest = max(wait, MOMENT) if told.get("phase") in (ENDING, STARTING) else wait
        if told.get("manual") or time.monotonic() - begun >= longest:
            raise refusal(app, told)
        time.sleep(POLL)


def tell(app: App, told: Json) -> None:
    """Keep lock.json current. It informs and decides nothing, so it need not survive a power cut."""
    write_json(app.lock_json, told, durable=False)


def acquire(app: App, who: str, origin: str, message: str) -> Json:
    """Lock by hand, until `release`. Raises HostError (locked) when anybody holds the lock."""
    with Flock(app.start_lock, wait=2):
        wait_until_free(app, 0)
        told = {
            "who": who,
            "from": origin,
            "verb": "lock",
            "release": None,
            "phase": "manual",
            "since": time.time(),
        }
        told |= {"message": message, "manual": True}
        write_json(app.lock_json, told)
    return told


def release(app: App, who: str, force: bool) -> Json | None:
    """Undo `acquire`.

    Returns the lock that was released, None when there was none. Raises HostError (locked).
    """
    told = read_json(app.lock_json)
    if told is None or not told.get("manual"):
        running = holder(app)
        if running is not None:
            raise refusal(app, running)
        return None
    if told.get("who") != who and not force:
        error = refusal(app, told)
        raise HostError(error.what, error.where, "deploy lock release --force", LOCKED)
    unlink(app.lock_json)
    return told
