"""`hostctl APP status`: the state of the app, read live from the symlink, systemd, the instance and the edge."""

from __future__ import annotations

import time
from typing import cast

from hostctl.accessories import services
from hostctl.common.documents import (
    DatabaseStatus,
    Drain,
    Health,
    LiveRelease,
    Record,
    Space,
    Status,
    TransitionSummary,
)
from hostctl.common.files import Json, read_json
from hostctl.common.net import certificate
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.cron import commands
from hostctl.edge import maintenance
from hostctl.host import disk as host_disk
from hostctl.host import listeners
from hostctl.host.host import Host
from hostctl.host.systemd import Unit
from hostctl.instance import health
from hostctl.journal import journal
from hostctl.notify import alerts
from hostctl.release import app_config, records

PROBE = 2.0  # seconds for the answer of the live instance


def status(app: App, host: Host) -> Status:
    """The state of the app; times in seconds since the epoch, sizes in bytes."""
    live = app.live()
    record = (read_json(app.record(live) / "record.json") if live else None) or {}
    names = app_config.load(app)["domains"] or record.get("settings", {}).get("domains", [])
    drains = journal.draining(app)
    units = host.systemd.show(*([app.unit(live)] if live else []), *(app.unit(d.previous or "") for d in drains))
    unit = units[0] if live else None
    listener = host.listener(app.unit(live), records.port(app, live) or 0) if live else listeners.NOBODY
    document: Status = {
        "app": app.name,
        "live": _live(app, live, record, unit, listener),
        "health": _health(app, host, live, record, names, listener),
        "maintenance": maintenance.current(app),
        "lock": lock.holder(app),
        "transition": transition(app),
        "disk": disk(app),
        "drains": [_drain(app, host, entry) for entry in drains],
        "certificate": {"name": names[0], "not_after": certificate.served_until(names[0])} if names else None,
        "memory": unit.memory if unit else None,
        "database": database(app, host),
        "cron": commands.status(app, host),
        "accessories": services.status(app, host),
        "trouble": [],
    }
    document["trouble"] = alerts.trouble(document, time.time())
    return document


def database(app: App, host: Host) -> DatabaseStatus | None:
    """The database and its backup, without a request to another host; None without a database."""
    if not app.database.exists():
        return None
    from hostctl.verbs import backup

    return backup.summary(app, host)


def _live(app: App, live: str | None, record: Json, unit: Unit | None, listener: str) -> LiveRelease | None:
    if live is None or unit is None:
        return None
    document: LiveRelease = {
        "release": live,
        "git": record.get("git"),
        "since": records.live_since(cast("Record", record)) if record else None,
        "instance": app.unit(live),
        "port": records.port(app, live),
        "state": unit.state,
        "restarts": unit.restarts,
        "digest": record.get("digest"),
        "who": record.get("who"),
    }
    if listener == listeners.FOREIGN:
        document["listener"] = listener
    return document


def _health(app: App, host: Host, live: str | None, record: Json, names: list[str], listener: str) -> Health:
    number = records.port(app, live) if live else None
    if number is None or not names or "settings" not in record:
        return {"ok": False, "status": 0, "text": "nothing is live"}
    path = record["settings"]["health"]["path"]
    answer = host.get(number, names[0], path, PROBE)
    foreign = health.listener_problem(listener, app.unit(live or ""), number)
    why = foreign if answer.is_success else health.explain(answer, names[0], path)
    return {"ok": not why, "status": answer.status, "text": why}


def transition(app: App) -> TransitionSummary | None:
    """A summary of the running or last transition."""
    known = journal.ids(app)
    entry = journal.load(app, known[-1]) if known else None
    if entry is None:
        return None
    return {
        "id": entry.id,
        "verb": entry.content["verb"],
        "release": entry.content["release"],
        "done": entry.result is not None,
        "phase": (entry.begun or ["lock"])[-1],
        "result": entry.result["result"] if entry.result else None,
    }


def disk(app: App) -> Space:
    """Bytes and inodes of the file system that holds the releases."""
    return host_disk.space(app.trees if app.trees.is_dir() else app.layout.root)


def _drain(app: App, host: Host, entry: journal.Journal) -> Drain:
    number = records.port(app, entry.previous or "")
    left = host.connections(number) if number else 0
    ends = (entry.content.get("ended") or 0) + entry.content["settings"]["drain_timeout"]
    return {"release": entry.previous, "until": ends, "connections": left}
