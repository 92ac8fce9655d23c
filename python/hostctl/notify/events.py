"""Puts notices of events into the queue of each receiver; on a new file systemd starts the unit that sends them.

A transition only writes the file, so it never waits for a receiver, and never fails because of one.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

from hostctl.common import message
from hostctl.common.documents import (
    DatabaseStatus,
    DrillResult,
    QueuedNotice,
    ReceiverConfig,
    ReceiverUpdate,
    Result,
    TroubleState,
)
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, unlink, write_json
from hostctl.common.message import Notice
from hostctl.common.names import transition_id
from hostctl.core import schema
from hostctl.core.paths import App
from hostctl.host import credentials
from hostctl.notify import alerts

SEALED_AS = "notify"


class Receiver(NamedTuple):
    """A receiver: the name of the secret that holds its URL, its format, and its events."""

    url: str
    format: str
    on: tuple[str, ...]

    def document(self) -> ReceiverConfig:
        """The receiver as JSON has it."""
        return {"url": self.url, "format": self.format, "on": list(self.on)}


RECEIVER = {
    "url": schema.name("variable"),
    "format": schema.one_of(*message.FORMATS),
    "on": schema.list_of(schema.one_of(*message.EVENTS), at_least=1),
}
# the document that provisioning sends on standard input: null keeps the stored URL
UPDATE = {
    "receivers": schema.list_of(lambda value: not schema.mistakes(RECEIVER, value)),
    "urls": schema.mapping(schema.either(schema.text, None)),
}


# ---------------------------------------------------------------------------------------------- receivers


def receivers(app: App) -> list[Receiver]:
    """The receivers; none if provisioning wrote none, or the file cannot be read."""
    document = read_json(app.notify_config) or {}
    with suppress(KeyError, TypeError):
        return [Receiver(each["url"], each["format"], tuple(each["on"])) for each in document["receivers"]]
    return []


def save(app: App, update: ReceiverUpdate) -> bool:
    """Write the receivers, and their URLs encrypted; returns whether anything changed.

    `update` fits UPDATE. Raises HostError (usage) for a URL that is not valid, or that the host does not have.
    """
    _refuse(app, update["urls"])
    make_directory(app.notify_urls, 0o700)
    new = {name: url for name, url in update["urls"].items() if url is not None and url != _stored_url(app, name)}
    for name, url in new.items():
        credentials.write(_file(app, name), SEALED_AS, url.encode())
    unused = [path for path in app.notify_urls.iterdir() if path.stem not in update["urls"]]
    for path in unused:
        unlink(path)
    changed = read_json(app.notify_config) != (document := {"receivers": update["receivers"]})
    if changed:
        write_json(app.notify_config, document)
    return bool(new or unused or changed)


def _refuse(app: App, urls: Mapping[str, str | None]) -> None:
    from hostctl.common.net import webhook  # imports TLS, which writing a notice does not need

    fix = "deploy secrets set {}, then run deploy provision"
    for name, url in urls.items():
        if url is None and _stored_url(app, name) is None:
            raise HostError(f"the host has no URL yet for {name}", "notify in deploy.yml", fix.format(name), USAGE)
        if url is not None and (reason := webhook.mistake(url)):
            raise HostError(f"the value of {name} {reason}", "notify in deploy.yml", fix.format(name), USAGE)


def url_of(app: App, name: str) -> str:
    """The URL of a receiver. Raises HostError when it is missing or cannot be decrypted."""
    try:
        return credentials.read(_file(app, name), SEALED_AS).decode()
    except (OSError, UnicodeDecodeError):
        where = str(_file(app, name))
        raise HostError(f"the host has no URL for {name}", where, "deploy provision", USAGE) from None


def _stored_url(app: App, name: str) -> str | None:
    with suppress(HostError):
        return url_of(app, name)
    return None


def _file(app: App, name: str) -> Path:
    return app.notify_urls / f"{name}.cred"


# ---------------------------------------------------------------------------------------------- events


def transition_ended(app: App, journal: Json, result: Result) -> None:
    """Send a notice that a transition or a build has ended.

    Call it before the journal records the end: a crash in between then sends two notices and not none.
    """
    with suppress(Exception):  # an error here must not fail the transition
        if journal["verb"] == "build" and result["error"] is None:
            return
        record = (read_json(app.record(str(result["release"])) / "record.json") or {}) if result["release"] else {}
        enqueue(app, message.of_transition(app.name, journal, result, record.get("git")), str(journal["id"]))


def drill_ended(app: App, before: DrillResult | None, result: DrillResult) -> None:
    """Send a notice of a drill that has ended, if its result needs one; `before` is the result of the one before."""
    with suppress(Exception):
        if notice := message.of_drill(app.name, before, result):
            enqueue(app, notice, f"drill-{transition_id()}")


def monitor_ran(app: App, result: Json, database: DatabaseStatus | None) -> None:
    """Send a notice when trouble with the database begins or ends. Does nothing for a monitor that left the check to
    another process.
    """
    with suppress(Exception):
        if result.keys() & {"paused", "left_to"} or not any(message.TROUBLE in each.on for each in receivers(app)):
            return
        path, now = app.notify / "trouble.json", time.time()
        before = cast("TroubleState | None", read_json(path))
        state, trouble = judge(before, alerts.of_database(_without_drill(database), now), now)
        if trouble is not None:
            since = (state or before or {"since": now})["since"]
            enqueue(app, message.of_trouble(app.name, trouble, since), f"trouble-{transition_id()}")
        make_directory(app.notify, 0o700)
        write_json(path, state) if state else unlink(path)


def _without_drill(database: DatabaseStatus | None) -> DatabaseStatus | None:
    """The status without the last drill, since a failed drill has a notice of its own."""
    backup = database.get("backup") if database else None
    return {**database, "backup": {**backup, "drill": None}} if database and backup else database


def judge(before: TroubleState | None, trouble: list[str], now: float) -> tuple[TroubleState | None, list[str] | None]:
    """The state after a run of the monitor, and what a notice reports: the trouble, its end ([]), or nothing (None).

    Trouble is reported when two runs in a row have found it: the monitor repairs some of it within one.
    """
    seen, told = (before["seen"], before["told"]) if before else ([], [])
    if not trouble:
        return None, [] if told else None
    kinds = [_kind(text) for text in trouble]
    new = [kind for kind in kinds if kind in seen and kind not in told]
    state: TroubleState = {"since": before["since"] if before else now, "seen": kinds, "told": [*told, *new]}
    return state, trouble if state["told"] != told else None


def _kind(text: str) -> str:
    """The first words of a sentence of trouble, without its numbers, which differ between two runs."""
    return " ".join(re.sub(r"\d\S*", "", text).split()[:4])


def enqueue(app: App, notice: Notice, key: str, to: Iterable[Receiver] | None = None) -> list[Path]:
    """Put a notice into the queue of every receiver of its event, or of those in `to`. Returns the files, whose names
    begin with `key`. Raises OSError.
    """
    chosen = [each for each in receivers(app) if notice.event in each.on] if to is None else list(to)
    for directory in (app.notify, app.notify / "queue") if chosen else ():
        make_directory(directory, 0o700)
    return [_write(app, notice, key, receiver) for receiver in chosen]


def _write(app: App, notice: Notice, key: str, receiver: Receiver) -> Path:
    document = message.document(notice, app.name, socket.gethostname(), time.time())
    queued: QueuedNotice = {**document, "receiver": receiver.document(), "tries": 0, "next": 0.0}
    path = app.notify / "queue" / f"{key}.{receiver.url}.json"
    write_json(path, queued)
    return path
