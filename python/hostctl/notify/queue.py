"""Sends the queued notices, and for hours repeats those that a receiver does not accept."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from hostctl.common import message
from hostctl.common.documents import Attempt, QueuedNotice, ReceiverStatus, TestAnswer
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import make_directory, read_json, unlink, write_json
from hostctl.common.message import Post
from hostctl.common.names import transition_id
from hostctl.common.net import webhook
from hostctl.common.net.webhook import Delivery
from hostctl.core import audit
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.notify import events

WAITS = (5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0)  # seconds before each further try; the last one is repeated
LONGEST = 6 * 3600.0  # seconds after which a notice is given up
WAKE = 1.0  # seconds between two reads of the queue while it is not empty
# seconds for which the unit still runs on an empty queue, so that StartLimitBurst is not reached
LINGER = 3.0
PATIENCE = 25.0  # seconds for which a test waits for its answers; ssh allows 60

Send = Callable[[str, Post], Delivery]


# ---------------------------------------------------------------------------------------------- schedule


def is_due(notice: QueuedNotice, now: float) -> bool:
    """Whether to send a notice now. A time too far ahead counts as due: the clock was set back."""
    return notice["next"] <= now or notice["next"] > now + WAITS[-1]


def next_try(notice: QueuedNotice, now: float) -> float | None:
    """When to try again after a try that failed at `now`; None to give the notice up."""
    then = now + WAITS[min(notice["tries"], len(WAITS) - 1)]
    late = then > notice["at"] + LONGEST or notice["event"] == message.TEST
    return None if late else then


# ---------------------------------------------------------------------------------------------- sending


def deliver(app: App, host: Host, send: Send = webhook.send) -> dict[str, int]:
    """Send the queued notices until the queue is empty. Returns how many were sent and given up."""
    counts = {"sent": 0, "given_up": 0}
    # the first round, after a reboot or a crash, tries every notice at once
    idle_since, first_round = host.clock(), True
    while (waiting := pending(app)) or host.clock() - idle_since < LINGER:
        for path, notice in waiting:
            if (first_round or is_due(notice, time.time())) and (outcome := _try(app, path, notice, send)):
                counts[outcome] += 1
        idle_since, first_round = host.clock() if waiting else idle_since, False
        host.sleep(WAKE if waiting else 0.1)
    return counts


def pending(app: App) -> list[tuple[Path, QueuedNotice]]:
    """The queued notices, the oldest first. Deletes those that are damaged or whose receiver was removed."""
    known = {receiver.url for receiver in events.receivers(app)}
    entries = [(path, read_json(path)) for path in (app.notify / "queue").glob("*.json")]
    for path, entry in entries:
        if entry is None or entry["receiver"]["url"] not in known:
            unlink(path)
    notices = [(path, cast("QueuedNotice", entry)) for path, entry in entries if entry is not None and path.exists()]
    return sorted(notices, key=lambda each: each[1]["at"])


def _try(app: App, path: Path, notice: QueuedNotice, send: Send) -> str | None:
    """Try to send a notice; returns a key of the counts of `deliver`, None when there will be another try."""
    receiver, now = notice["receiver"], time.time()
    try:
        answer = send(events.url_of(app, receiver["url"]), message.post(receiver["format"], notice))
    except HostError as error:
        answer = Delivery(0, error.what)
    again = None if answer.final else next_try(notice, now)
    _record(app, path, notice, answer, again)
    if again is not None:
        write_json(path, {**notice, "tries": notice["tries"] + 1, "next": again})
        return None
    if not answer.accepted:
        _log_failure(notice, answer)
    unlink(path)
    return "sent" if answer.accepted else "given_up"


def _record(app: App, path: Path, notice: QueuedNotice, answer: Delivery, again: float | None) -> None:
    """Write the result of a try, which `listing` shows."""
    make_directory(app.notify / "last", 0o700)
    attempt: Attempt = {
        "id": path.stem,
        "at": time.time(),
        "event": notice["event"],
        "title": notice["title"],
        "ok": answer.accepted,
        "status": answer.status,
        "answer": answer.text,
        "next_try": again,
    }
    write_json(app.notify / "last" / f"{notice['receiver']['url']}.json", attempt)


def _log_failure(notice: QueuedNotice, answer: Delivery) -> None:
    reason = f"it answered {answer.status}" if answer.status else answer.text
    what = f"{notice['receiver']['url']} did not accept the notice {notice['title']!r}: {reason}"
    print(f"<3>{what}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------- list and test


def listing(app: App) -> list[ReceiverStatus]:
    """Every receiver, with how many notices wait for it and the result of the last try. Times in seconds."""
    waiting = [notice["receiver"]["url"] for _, notice in pending(app)]
    return [
        {**receiver.document(), "waiting": waiting.count(receiver.url), "last": _last(app, receiver.url)}
        for receiver in events.receivers(app)
    ]


def _last(app: App, name: str) -> Attempt | None:
    return cast("Attempt | None", read_json(app.notify / "last" / f"{name}.json"))


def send_test(app: App, who: str, origin: str, host: Host) -> list[TestAnswer]:
    """Send a test through the queue to every receiver; returns the answer of each. Raises HostError."""
    if not events.receivers(app):
        fix = "add notify to deploy.yml, then run deploy provision"
        raise HostError("the app has no receivers of notices", "notify in deploy.yml", fix, USAGE)
    audit.note(app, who, origin, "notify test", "")
    host.systemd.start(app.helper_unit("notify").replace(".service", ".path"))
    sent = events.enqueue(app, message.test(app.name, who), f"test-{transition_id()}", events.receivers(app))
    deadline = host.clock() + PATIENCE
    while (left := [path for path in sent if path.exists()]) and host.clock() < deadline:
        host.sleep(0.1)
    for path in left:
        unlink(path)
    return [_test_answer(app, path) for path in sent]


def _test_answer(app: App, path: Path) -> TestAnswer:
    name = path.stem.rpartition(".")[2]
    last = _last(app, name)
    if last is None or last["id"] != path.stem:
        return {"url": name, "ok": False, "status": 0, "answer": f"the host did not send it within {PATIENCE:g} s"}
    return {"url": name, "ok": last["ok"], "status": last["status"], "answer": last["answer"]}
