"""How a push or rollback begins: everything is checked and written down, then a unit of its own makes the
switch.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hostctl.accessories import services
from hostctl.backup import restore_points
from hostctl.common import migrations
from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, write_atomic
from hostctl.common.names import transition_id
from hostctl.core import lock
from hostctl.core.paths import PROGRAM, App
from hostctl.cron import jobs
from hostctl.host.host import Host
from hostctl.host.systemd import self_command
from hostctl.instance import agent
from hostctl.journal import journal
from hostctl.release import app_config, envfile, records, selection
from hostctl.release import environment as at_rest
from hostctl.transitions import prune, recover, restore, rollback_risk

UNIT_START = 15.0  # seconds for the unit to take the lock
COMPARED = (
    "release_name",
    "health",
    "drain_timeout",
    "retain_releases",
    "strategy",
    "commands",
    "migrate_timeout",
    "domains",
    "database",
    "cron",
)


def push(app: App, spec: Json, host: Host, verb: str = "push") -> Json:
    """Begin a push, or with `env` that of what is live with another environment and settings.

    Returns the transition, or that nothing differs from what is live. Raises HostError.
    """
    with alone(app, host, float(spec.get("lock_wait") or 0)):
        if verb == "env":
            _refuse_other(app, spec["digest"])
        values = environment(app, spec)
        if unchanged(app, spec, values) and host.systemd.show(app.unit(app.live() or ""))[0].state == "active":
            return {"unchanged": True, "release": app.live()}
        _refuse(app, spec)
        jobs.refuse(spec["settings"], host)
        who, origin = spec.get("who") or "", spec.get("from") or ""
        entry = _journal(app, verb, spec["release"], who, origin, spec["settings"])
        _write_release(app, spec, values)
        _launch(app, entry, host)
    return {"transition": entry.id}


def compared(settings: Json) -> Json:
    """The settings that a record keeps; one that an older record does not know is as if it were not set."""
    return {key: settings.get(key) for key in COMPARED}


def rollback(app: App, wanted: str | None, who: str, origin: str, wait: float, host: Host, force: bool = False) -> Json:
    """Begin a rollback of the code alone. Returns the transition and the release it goes to.

    Raises HostError, also when the older code would meet a schema that it may not know, unless `force`.
    """
    with alone(app, host, wait):
        target = selection.rollback_target(prune.see(app, None), app.live(), wanted)
        warning = _schema_ahead(app, target, force)
        entry = _journal(app, "rollback", target, who, origin, _settings_now(app, target))
        if warning:
            entry.event("lock", "note", warning)
        _launch(app, entry, host)
    return {"transition": entry.id, "release": target}


def rollback_with_data(
    app: App, wanted: str | None, point: str | None, who: str, origin: str, wait: float, host: Host
) -> Json:
    """Begin a rollback of code and data to before the push of what is live, `point` being what was agreed to.

    Returns the transition and the release. Raises HostError.
    """
    with alone(app, host, wait):
        target, data = _before(app, wanted, point, host)
        entry = _journal(app, "rollback", target, who, origin, _settings_now(app, target), data=data)
        _launch(app, entry, host)
    return {"transition": entry.id, "release": target}


def way_back(app: App, wanted: str | None, host: Host) -> Json:
    """Where `rollback --with-data` would go, and what that gives up, with nothing done. Raises HostError."""
    target, data = _before(app, wanted, None, host)
    return {"release": target, "point": data["point"], "gives_up": restore.gives_up(app, data)}


def _before(app: App, wanted: str | None, agreed: str | None, host: Host) -> tuple[str, Json]:
    """The release and the data of before the push of what is live."""
    found = restore_points.before(app, app.live())
    selection.same_point(found, wanted, agreed)
    target = selection.rollback_target(prune.see(app, None), app.live(), found["release"])
    return target, restore.source(app, None, found["id"], host)


def replace_data(app: App, verb: str, data: Json, who: str, origin: str, wait: float, host: Host) -> Json:
    """Begin a `restore` (or `load`) of the data under the release that is live. Returns the transition.

    Raises HostError.
    """
    with alone(app, host, wait):
        live = app.live()
        if live is None:
            raise HostError("nothing is live, so there is no app to restore for", str(app.live_link), "deploy push")
        entry = _journal(app, verb, live, who, origin, _settings_now(app, live), data=data)
        _launch(app, entry, host)
    return {"transition": entry.id, "release": live}


def restore_in_place(app: App, data: Json, who: str, origin: str, wait: float, host: Host) -> Json:
    """Begin a restore in place. Returns the transition. Raises HostError."""
    return replace_data(app, "restore", data, who, origin, wait, host)


def load(app: App, path: Path, who: str, origin: str, host: Host) -> Json:
    """Begin a restore in place from a file on this host, which is used up. Returns the transition. Raises HostError."""
    data = {"point": None, "at": time.time(), "file": str(path)}
    return replace_data(app, "load", data, who, origin, 0.0, host)


def _settings_now(app: App, release: str) -> Json:
    """The release's settings. Whether two instances may ever run side by side is the app's nature now, not what it was
    then.
    """
    settings: Json = records.load(app, release)["settings"]
    return {**settings, "strategy": app_config.load(app).get("strategy", settings["strategy"])}


def _schema_ahead(app: App, target: str, force: bool) -> str:
    """What a person should know of the database that the older code will meet; "" for nothing.

    Raises HostError when it may break there, unless `force`.
    """
    risk = rollback_risk.of(app, target)
    refusal = migrations.refusal(risk, target)
    if refusal and not force:
        raise refusal
    return migrations.warning(risk) if risk else ""


@contextmanager
def alone(app: App, host: Host, wait: float) -> Iterator[None]:
    """No other transition begins or runs meanwhile, and what a killed one left is mended.

    Raises HostError (locked).
    """
    make_directory(app.state, 0o755)
    make_directory(app.records, 0o755)
    begun = time.monotonic()
    try:
        with lock.Flock(app.start_lock, wait=max(wait, UNIT_START)):
            lock.wait_until_free(app, max(0.0, wait - (time.monotonic() - begun)))
            if journal.unfinished(app):
                with lock.Flock(app.lock, wait=2):
                    recover.everything(app, host)
            yield
    except BlockingIOError:
        raise lock.refusal(app, lock.holder(app) or {"since": time.time()}) from None


# ---------------------------------------------------------------------------------------------- checks


def environment(app: App, spec: Json) -> dict[str, str]:
    """The app's own variables: what is given, for a secret without a value what the live release has, and what the
    app's accessories give.

    Raises HostError (usage) when it has none.
    """
    live = app.live()
    kept = {name for name, value in spec["secrets"].items() if value is None}
    held = records.environment(app, live) if live and kept else {}
    missing = sorted(kept - held.keys())
    if missing:
        what = f"the host holds no value yet for {', '.join(missing)}"
        raise HostError(what, "env.secret in deploy.yml", "set it in the environment and push again", USAGE)
    given = {
        **services.environment(app),
        **(spec.get("env") or {}),
        **{n: held[n] if v is None else v for n, v in spec["secrets"].items()},
    }
    reserved = sorted(given.keys() & envfile.RESERVED)
    if reserved:
        raise HostError(f"Homeport itself sets {', '.join(reserved)}", "env in deploy.yml", "remove it there", USAGE)
    at_rest.refuse(given, spec["secrets"])
    return given


def unchanged(app: App, spec: Json, values: dict[str, str]) -> bool:
    """Whether the push would make live what is live."""
    live = app.live()
    record = read_json(app.record(live) / "record.json") if live else None
    if record is None or record["digest"] != spec["digest"]:
        return False
    same = compared(record["settings"]) == compared(spec["settings"])
    return bool(same and record["env_digest"] == envfile.digest(cookie(app), values))


def _refuse_other(app: App, digest: str) -> None:
    """An environment is for the artifact that is live: with another one it would be a push without a build."""
    live = app.live()
    if live is None:
        raise HostError("nothing is live that could have another environment", str(app.live_link), "deploy push")
    if records.load(app, live)["digest"] != digest:
        raise HostError(f"{live} went live meanwhile", str(app.live_link), "deploy env push", FAILED)


def _refuse(app: App, spec: Json) -> None:
    """Whatever can be known to fail before anything is touched."""
    release = spec["release"]
    if app.record(release).exists() or app.tree(release).exists():
        raise HostError(
            f"there is a release {release} already",
            str(app.record(release)),
            "push again for a new id",
            FAILED,
        )
    tar = app.artifact(spec["digest"])
    if not tar.is_file():
        raise HostError("the artifact is not on the host", str(tar), "deploy push uploads it again", FAILED)
    free = os.statvfs(app.trees if app.trees.is_dir() else app.state)
    need, have = tar.stat().st_size, free.f_bavail * free.f_frsize
    if have < need:
        what = f"the disk is full: unpacking needs {need >> 20} MiB, {have >> 20} MiB are free"
        raise HostError(what, str(app.trees), "free some space on the host, or lower retain_releases", FAILED)


def cookie(app: App) -> str:
    """The app's own key, made at its first use. It never leaves the host."""
    try:
        return app.cookie.read_text()
    except FileNotFoundError:
        fresh = os.urandom(32).hex()
        write_atomic(app.cookie, fresh.encode())
        return fresh


# -------------------------------------------------------------------------------------------- writing it down


def node_cookie(app: App) -> str:
    """The cookie of the app's nodes, which their arguments show to everybody: nothing can be told from it."""
    return hashlib.sha256(f"node {cookie(app)}".encode()).hexdigest()


def _journal(
    app: App, verb: str, release: str, who: str, origin: str, settings: Json, data: Json | None = None
) -> journal.Journal:
    return journal.create(app, transition_id(), verb, release, who, origin, settings=settings, data=data)


def _write_release(app: App, spec: Json, values: dict[str, str]) -> None:
    """The record and the environment of a new release; the journal, which is there already, answers for both."""
    release = spec["release"]
    make_directory(app.trees, 0o755)
    make_directory(app.assets, 0o755)
    make_directory(app.record(release), 0o755)
    now = time.time()
    record = {key: spec.get(key) for key in ("release", "digest", "git", "who", "from")}
    record |= {"created": now, "state": records.STAGED, "history": [{"state": records.STAGED, "at": now}]}
    secrets = sorted({*spec["secrets"], *(services.variables(app) - (spec.get("env") or {}).keys())})
    record |= {"size": app.artifact(spec["digest"]).stat().st_size, "secrets": secrets}
    record |= {"settings": compared(spec["settings"])}
    record |= _told_of(app, values)
    full = envfile.complete(app.name, release, node_cookie(app), app_config.domains(app, spec["settings"])[0], values)
    write_atomic(app.record(release) / envfile.AGENT, agent.source().encode(), 0o644)
    at_rest.keep(app, release, full, secrets)
    records.save(app, record)
    records.save(app, {**record, "env_changes": records.env_changes(app, app.live(), release)})


def _told_of(app: App, values: dict[str, str]) -> Json:
    """What a record tells of an environment: whether it is another, and by name which variables are."""
    key = cookie(app)
    return {"env_digest": envfile.digest(key, values), "env_digests": envfile.digests(key, values)}


def _launch(app: App, entry: journal.Journal, host: Host) -> None:
    """Start the unit and wait until it holds the lock."""
    argv = self_command(PROGRAM, app.name, "transition", entry.id)
    # mixed: SIGTERM goes to hostctl alone, which undoes its steps; ExecStopPost runs however hostctl ended,
    # kill -9 too
    after = f"ExecStopPost={PROGRAM} {app.name} recover"
    properties = ["Type=exec", "KillMode=mixed", "TimeoutStopSec=60", "OOMScoreAdjust=-900", after]
    try:
        _start_unit(app.helper_unit("transition"), argv, properties, host)
        _wait_for(lambda: _taken(app, entry.id), app, host)
    except HostError:
        with lock.Flock(app.lock, wait=2):
            recover.everything(app, host)
        raise


def _start_unit(unit: str, argv: list[str], properties: list[str], host: Host) -> None:
    """Start it, once the unit of the transition before has left: its process lets the lock go a moment
    earlier.
    """
    deadline = host.clock() + UNIT_START
    while True:
        try:
            return host.systemd.background(unit, argv, properties)
        except HostError as error:
            if "already loaded" not in error.what or host.clock() >= deadline:
                raise
        host.sleep(0.02)


def _taken(app: App, transition: str) -> bool:
    latest = journal.load(app, transition)
    return latest is not None and (latest.result is not None or latest.content.get("taken") is not None)


def _wait_for(done: Callable[[], bool], app: App, host: Host) -> None:
    deadline = host.clock() + UNIT_START
    while not done():
        if host.clock() >= deadline:
            unit = app.helper_unit("transition")
            raise HostError("the transition did not begin", unit, f"journalctl -u {unit}", FAILED)
        host.sleep(0.005)
