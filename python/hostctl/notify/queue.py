"""Sends the queued notices: at once, and again for hours if a receiver does not accept them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from hostctl.common import message, webhook
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, unlink, write_json
from hostctl.common.message import Post
from hostctl.common.names import transition_id
from hostctl.common.webhook import Delivery
from hostctl.core import audit
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.notify import events

WAITS = (5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0)  # seconds before each further try; the last one repeats
LONGEST = 6 * 3600.0  # seconds after which nobody is told any more
WAKE = 1.0  # seconds between two looks while something waits
# the unit stays a little: so it is not started more often than its StartLimitBurst allows
LINGER = 3.0
PATIENCE = 25.0  # seconds that a test waits for its answers; ssh gives it 60

Send = Callable[[str, Post], Delivery]


# ---------------------------------------------------------------------------------------------- pure


def due(told: Json, now: float) -> bool:
    """Whether it is to be sent now. A clock that was set back must not put it off."""
    return bool(told["next"] <= now or told["next"] > now + WAITS[-1])


def next_try(told: Json, now: float) -> float | None:
    """When to try again after the try that has just failed; None: nobody would want to know by then."""
    then = now + WAITS[min(told["tries"], len(WAITS) - 1)]
    late = then > told["at"] + LONGEST or told["event"] == message.TEST
    return None if late else then


# ---------------------------------------------------------------------------------------------- the unit's work


def deliver(app: App, host: Host, send: Send = webhook.send) -> Json:
    """Send the queued notices until the queue is empty. Returns how many were sent and given up."""
    counted = {"sent": 0, "given_up": 0}
    # after a reboot, or a crash, what could not be sent then is tried at once
    idle, fresh = host.clock(), True
    while (found := pending(app)) or host.clock() - idle < LINGER:
        for path, told in found:
            if (fresh or due(told, time.time())) and (outcome := _try(app, path, told, send)):
                counted[outcome] += 1
        idle, fresh = host.clock() if found else idle, False
        host.sleep(WAKE if found else 0.1)
    return counted


def pending(app: App) -> list[tuple[Path, Json]]:
    """What waits, the oldest first. What is not as it was written, or for nobody any more, goes."""
    known = {one.url for one in events.receivers(app)}
    found = [(path, read_json(path)) for path in (app.notify / "queue").glob("*.json")]
    for path, told in found:
        if told is None or told["receiver"]["url"] not in known:
            unlink(path)
    kept = [(path, told) for path, told in found if told is not None and path.exists()]
    return sorted(kept, key=lambda one: float(one[1]["at"]))


def _try(app: App, path: Path, told: Json, send: Send) -> str | None:
    """One try; returns what came of the notice, None while it waits on."""
    receiver, now = told["receiver"], time.time()
    try:
        answer = send(events.url_of(app, receiver["url"]), message.post(receiver["format"], told))
    except HostError as error:
        answer = Delivery(0, error.what)
    again = None if answer.final else next_try(told, now)
    _keep(app, path, told, answer, again)
    if again is not None:
        write_json(path, {**told, "tries": told["tries"] + 1, "next": again})
        return None
    if not answer.taken:
        _complain(app, told, answer)
    unlink(path)
    return "sent" if answer.taken else "given_up"


def _keep(app: App, path: Path, told: Json, answer: Delivery, again: float | None) -> None:
    """What became of the last try, for whoever asks."""
    make_directory(app.notify / "last", 0o700)
    result: Json = {"id": path.stem, "at": time.time(), "event": told["event"], "title": told["title"]}
    result |= {"ok": answer.taken, "status": answer.status, "answer": answer.text, "next_try": again}
    write_json(app.notify / "last" / f"{told['receiver']['url']}.json", result)


def _complain(app: App, told: Json, answer: Delivery) -> None:
    how = f"it answered {answer.status}" if answer.status else answer.text
    what = f"{told['receiver']['url']} was not told {told['title']!r}: {how}"
    print(f"<3>{what}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------- what a person asks


def listing(app: App) -> list[Json]:
    """Every receiver, with how many notices wait for it and what became of the last try. Times in seconds."""
    count = [told["receiver"]["url"] for _, told in pending(app)]
    return [
        {**one._asdict(), "waiting": count.count(one.url), "last": _last(app, one.url)} for one in events.receivers(app)
    ]


def _last(app: App, name: str) -> Json | None:
    return read_json(app.notify / "last" / f"{name}.json")


def send_test(app: App, who: str, origin: str, host: Host) -> list[Json]:
    """Send a notice to everybody as any other is sent; returns what each receiver answered. Raises HostError."""
    if not events.receivers(app):
        fix = "add notify to deploy.yml, then run deploy provision"
        raise HostError("nobody is to be told anything", "notify in deploy.yml", fix, USAGE)
    audit.note(app, who, origin, "notify test", "")
    host.systemd.start(app.helper_unit("notify").replace(".service", ".path"))
    sent = events.enqueue(app, message.test(app.name, who), f"test-{transition_id()}", events.receivers(app))
    deadline = host.clock() + PATIENCE
    while (left := [path for path in sent if path.exists()]) and host.clock() < deadline:
        host.sleep(0.1)
    for path in left:
        unlink(path)
    return [_told(app, path) for path in sent]


def _told(app: App, path: Path) -> Json:
    name = path.stem.rpartition(".")[2]
    last = _last(app, name) or {}
    if last.get("id") != path.stem:
        what = f"nothing has sent it within {PATIENCE:g} s"
        return {"url": name, "ok": False, "status": 0, "answer": what}
    return {"url": name, **{key: last[key] for key in ("ok", "status", "answer")}}
