"""How each transition begins: it is checked and written to its journal, then a unit of its own performs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NotRequired, TypedDict

from hostctl.backup import restore_points
from hostctl.common.documents import DataSource, Json, PushSpec, Settings
from hostctl.common.errors import HostError
from hostctl.common.names import transition_id
from hostctl.core.paths import App
from hostctl.cron import jobs
from hostctl.host.host import Host
from hostctl.journal import journal
from hostctl.release import app_config, records, selection
from hostctl.transitions import rollback_risk
from hostctl.transitions.exclusion import exclusive
from hostctl.transitions.launch import launch
from hostctl.transitions.steps import new_release, prune, push_checks, restore


class Begun(TypedDict):
    """The transition that was begun; instead of it, `unchanged` when a push has nothing to do."""

    transition: NotRequired[str]
    unchanged: NotRequired[bool]
    # the release that becomes or stays live
    release: NotRequired[str | None]


class RollbackPlan(TypedDict):
    """What `rollback --with-data` would do: the release, the restore point, and the data that it would discard."""

    release: str
    point: str | None
    gives_up: Json


# ---------------------------------------------------------------------------------------------- push, env


def push(app: App, spec: PushSpec, host: Host, verb: str = "push") -> Begun:
    """Begin a push, or with the verb `env` one that changes only the environment and settings of the live release.

    Returns the transition, or `unchanged` when nothing differs from the live release. Raises HostError.
    """
    with exclusive(app, host, float(spec.get("lock_wait") or 0)):
        if verb == "env":
            push_checks.refuse_other_artifact(app, spec["digest"])
        variables = push_checks.environment(app, spec)
        if push_checks.unchanged(app, spec, variables) and _live_runs(app, host):
            return {"unchanged": True, "release": app.live()}
        push_checks.refuse(app, spec)
        jobs.refuse_schedules(spec["settings"], host)
        who, origin = spec.get("who") or "", spec.get("from") or ""
        entry = _create_journal(app, verb, spec["release"], who, origin, spec["settings"])
        new_release.write(app, spec, variables)
        launch(app, entry, host)
    return {"transition": entry.id}


def _live_runs(app: App, host: Host) -> bool:
    return host.systemd.show(app.unit(app.live() or ""))[0].state == "active"


def _create_journal(
    app: App, verb: str, release: str, who: str, origin: str, settings: Settings, data: DataSource | None = None
) -> journal.Journal:
    return journal.create(app, transition_id(), verb, release, who, origin, settings=settings, data=data)


# ---------------------------------------------------------------------------------------------- rollback


def rollback(
    app: App, reference: str | None, who: str, origin: str, wait: float, host: Host, force: bool = False
) -> Begun:
    """Begin a rollback of the code alone. Returns the transition and the release that becomes live.

    Raises HostError, also when the database has migrations that may break the older code, unless `force`.
    """
    with exclusive(app, host, wait):
        target = selection.rollback_target(prune.candidates(app, None), app.live(), reference)
        warning = _schema_warning(app, target, force)
        entry = _create_journal(app, "rollback", target, who, origin, _current_settings(app, target))
        if warning:
            entry.event("lock", "note", warning)
        launch(app, entry, host)
    return {"transition": entry.id, "release": target}


def _schema_warning(app: App, target: str, force: bool) -> str:
    """A warning about migrations that the older code does not know; "" for none.

    Raises HostError when they may break it, unless `force`.
    """
    risk = rollback_risk.unknown_migrations(app, target)
    refusal = rollback_risk.refusal(risk, target)
    if refusal and not force:
        raise refusal
    return rollback_risk.warning(risk) if risk else ""


def rollback_with_data(
    app: App, reference: str | None, point: str | None, who: str, origin: str, wait: float, host: Host
) -> Begun:
    """Begin a rollback of code and data to the restore point before the push of the live release.

    `point` is the restore point that the person confirmed. Returns the transition and the release that becomes live.
    Raises HostError, also when it would now be another point.
    """
    with exclusive(app, host, wait):
        target, data = _target_with_data(app, reference, point, host)
        entry = _create_journal(app, "rollback", target, who, origin, _current_settings(app, target), data=data)
        launch(app, entry, host)
    return {"transition": entry.id, "release": target}


def plan_rollback(app: App, reference: str | None, host: Host) -> RollbackPlan:
    """The release and restore point of `rollback --with-data`, and the data that it would discard, without doing it.

    Raises HostError.
    """
    target, data = _target_with_data(app, reference, None, host)
    return {"release": target, "point": data["point"], "gives_up": restore.gives_up(app, data)}


def _target_with_data(app: App, reference: str | None, confirmed: str | None, host: Host) -> tuple[str, DataSource]:
    """The release and the data from before the push of the live release."""
    point = restore_points.point_before(app, app.live())
    selection.check_point(point, reference, confirmed)
    target = selection.rollback_target(prune.candidates(app, None), app.live(), point["release"])
    return target, restore.source(app, None, point["id"], host)


def _current_settings(app: App, release: str) -> Settings:
    """The release's settings with the strategy of today: whether two instances may run side by side depends on the app,
    not on the release.
    """
    settings: Settings = records.load(app, release)["settings"]
    return {**settings, "strategy": app_config.load(app).get("strategy", settings["strategy"])}


# ---------------------------------------------------------------------------------------------- restore, load


def replace_data(app: App, verb: str, data: DataSource, who: str, origin: str, wait: float, host: Host) -> Begun:
    """Begin a transition that replaces the data of the live release. Returns the transition. Raises HostError."""
    with exclusive(app, host, wait):
        live = app.live()
        if live is None:
            what = "no release is live, so there is no app to restore data for"
            raise HostError(what, str(app.live_link), "deploy push")
        entry = _create_journal(app, verb, live, who, origin, _current_settings(app, live), data=data)
        launch(app, entry, host)
    return {"transition": entry.id, "release": live}


def restore_in_place(app: App, data: DataSource, who: str, origin: str, wait: float, host: Host) -> Begun:
    """Begin a restore in place. Returns the transition. Raises HostError."""
    return replace_data(app, "restore", data, who, origin, wait, host)


def load(app: App, path: Path, who: str, origin: str, host: Host) -> Begun:
    """Begin a restore from a file on this host, which the transition moves away. Returns the transition. Raises
    HostError.
    """
    data: DataSource = {"point": None, "at": time.time(), "file": str(path)}
    return replace_data(app, "load", data, who, origin, 0.0, host)
