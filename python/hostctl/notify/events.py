"""Puts notices of events into the queue of each receiver. systemd starts the unit that sends them.

A transition only writes a file, so it never waits for a receiver, and never fails because of one.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostctl.common import message
from hostctl.common.documents import Result
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
    """A receiver: the name of the secret that holds its URL, what it understands, and what it wants to know of."""

    url: str
    format: str
    on: tuple[str, ...]


RECEIVER = {
    "url": schema.name("variable"),
    "format": schema.one_of(*message.FORMATS),
    "on": schema.list_of(schema.one_of(*message.EVENTS), at_least=1),
}
# what provisioning gives on standard input: null keeps the URL that is there
KEPT = {
    "receivers": schema.list_of(lambda value: not schema.mistakes(RECEIVER, value)),
    "urls": schema.mapping(schema.either(schema.text, None)),
}


# ---------------------------------------------------------------------------------------------- what provisioning keeps


def receivers(app: App) -> list[Receiver]:
    """The receivers; none if provisioning wrote none, or the file cannot be read."""
    told = read_json(app.notify_config) or {}
    with suppress(KeyError, TypeError):
        return [Receiver(one["url"], one["format"], tuple(one["on"])) for one in told["receivers"]]
    return []


def save(app: App, told: Json) -> bool:
    """Write the receivers down, their URLs sealed; returns whether anything changed.

    `told` is as KEPT wants it. Raises HostError (usage) for a URL that is none, or that nobody has given yet.
    """
    _refuse(app, told)
    make_directory(app.notify_urls, 0o700)
    given = {name: url for name, url in told["urls"].items() if url is not None and url != _held(app, name)}
    for name, url in given.items():
        credentials.write(_file(app, name), SEALED_AS, url.encode())
    gone = [path for path in app.notify_urls.iterdir() if path.stem not in told["urls"]]
    for path in gone:
        unlink(path)
    changed = read_json(app.notify_config) != (wanted := {"receivers": told["receivers"]})
    if changed:
        write_json(app.notify_config, wanted)
    return bool(given or gone or changed)


def _refuse(app: App, told: Json) -> None:
    from hostctl.common import webhook  # with all that a connection needs, which telling does not

    fix = "deploy secrets set {}, then run deploy provision"
    for name, url in told["urls"].items():
        if url is None and _held(app, name) is None:
            raise HostError(f"the host has no URL yet for {name}", "notify in deploy.yml", fix.format(name), USAGE)
        if url is not None and (wrong := webhook.mistake(url)):
            raise HostError(f"the value of {name} {wrong}", "notify in deploy.yml", fix.format(name), USAGE)


def url_of(app: App, name: str) -> str:
    """The URL of a receiver. Raises HostError when it cannot be had."""
    try:
        return credentials.read(_file(app, name), SEALED_AS).decode()
    except (OSError, UnicodeDecodeError):
        where = str(_file(app, name))
        raise HostError(f"the host has no URL for {name}", where, "deploy provision", USAGE) from None


def _held(app: App, name: str) -> str | None:
    with suppress(HostError):
        return url_of(app, name)
    return None


def _file(app: App, name: str) -> Path:
    return app.notify_urls / f"{name}.cred"


# ---------------------------------------------------------------------------------------------- what is told


def transition_ended(app: App, asked: Json, result: Result) -> None:
    """A transition or a build has ended.

    Told before its journal says so: a crash in between tells it twice, not never.
    """
    with suppress(Exception):  # whatever it is, it must not become the transition's
        if asked["verb"] == "build" and result["error"] is None:
            return
        record = (read_json(app.record(str(result["release"])) / "record.json") or {}) if result["release"] else {}
        enqueue(app, message.of_transition(app.name, asked, result, record.get("git")), str(asked["id"]))


def drill_ended(app: App, before: Json | None, result: Json) -> None:
    """A drill has ended; `before` is the one before it."""
    with suppress(Exception):
        if found := message.of_drill(app.name, before, result):
            enqueue(app, found, f"drill-{transition_id()}")


def monitor_ran(app: App, looked: Json, database: Json | None) -> None:
    """The watch has looked; `database` is what status knows of it. A look that was left to others tells nothing."""
    with suppress(Exception):
        if looked.keys() & {"paused", "left_to"} or not any(message.TROUBLE in one.on for one in receivers(app)):
            return
        path, now = app.notify / "trouble.json", time.time()
        found = alerts.of_database(_without_drill(database), now)
        before = read_json(path)
        state, told = judge(before, found, now)
        if told is not None:
            since = (state or before or {"since": now})["since"]
            enqueue(app, message.of_trouble(app.name, told, since), f"trouble-{transition_id()}")
        make_directory(app.notify, 0o700)
        write_json(path, state) if state else unlink(path)


def _without_drill(database: Json | None) -> Json | None:
    """A drill that failed is told by itself."""
    backup = (database or {}).get("backup")
    return {**(database or {}), "backup": {**backup, "drill": None}} if backup else database


def judge(before: Json | None, found: list[str], now: float) -> tuple[Json | None, list[str] | None]:
    """What to remember after a look that found this, and what to tell: trouble, its end ([]), or nothing (None).

    Trouble is told when two looks in a row have seen it: what was mended at once is nobody's.
    """
    seen, told = (before or {}).get("seen", []), (before or {}).get("told", [])
    if not found:
        return None, [] if told else None
    kinds = [_kind(one) for one in found]
    lasting = [kind for kind in kinds if kind in seen]
    since = (before or {}).get("since", now)
    state = {"since": since, "seen": kinds, "told": [*told, *(kind for kind in lasting if kind not in told)]}
    return state, found if state["told"] != told else None


def _kind(text: str) -> str:
    """A sentence of trouble without what differs from look to look."""
    return " ".join(re.sub(r"\d\S*", "", text).split()[:4])


def enqueue(app: App, what: Notice, key: str, to: Iterable[Receiver] | None = None) -> list[Path]:
    """Put a notice into the queue of every receiver of its event; `key` names the file. Raises OSError."""
    wanted = [one for one in receivers(app) if what.event in one.on] if to is None else list(to)
    if not wanted:
        return []
    for directory in (app.notify, app.notify / "queue"):
        make_directory(directory, 0o700)
    told = {"app": app.name, "host": socket.gethostname(), "at": time.time(), **what._asdict()}
    paths = [app.notify / "queue" / f"{key}.{one.url}.json" for one in wanted]
    for path, one in zip(paths, wanted, strict=True):
        write_json(path, {**told, "receiver": one._asdict(), "tries": 0, "next": 0.0})
    return paths
