"""The jobs of a release, and the names and places of what each has on the host."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hostctl.common.documents import Job, Settings
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import read_json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.instance import shell

GATE = 60.0  # seconds; who has the gate only begins or ends a job, or changes the timers
OK, FAILURE, TIMEOUT, INTERRUPTED = "ok", "failed", "timeout", "interrupted"


class Who(NamedTuple):
    """Who asks, and from where, for the audit."""

    name: str
    origin: str


def service(app: App, name: str) -> str:
    """The unit that a job's timer starts. No other app's unit can be called so: the names of apps have no @."""
    return f"homeport-{app.name}-cron@{name}.service"


def timer(app: App, name: str) -> str:
    return service(app, name).removesuffix(".service") + ".timer"


def unit(app: App, name: str) -> str:
    """The unit in which the job's program runs."""
    return f"homeport-{app.name}-job@{name}.service"


def units(app: App, name: str) -> tuple[str, ...]:
    """The units that write a job's log, as patterns; of every job for *."""
    return service(app, name), unit(app, name)


def state(app: App) -> Path:
    return app.state / "cron"


def last(app: App, name: str) -> Path:
    return state(app) / "jobs" / f"{name}.json"


def jobs(app: App, release: str | None) -> list[Job]:
    """The jobs of a release, as its deploy.yml named them; none for no release, or one of before there were any."""
    record = read_json(app.record(release) / "record.json") if release else None
    return list((record or {}).get("settings", {}).get("cron") or [])


def find(app: App, name: str, release: str | None) -> Job:
    known = jobs(app, release)
    found = next((job for job in known if job["name"] == name), None)
    if found is None:
        names = ", ".join(job["name"] for job in known) or "none"
        what = f"the live release has no job {name}; its jobs: {names}"
        raise HostError(what, str(app.live_link), "name it in cron in deploy.yml, and push", USAGE)
    return found


def refuse(settings: Settings, host: Host) -> None:
    """Raises HostError (usage) for a schedule that this host's systemd does not know, or whose time never comes."""
    for job in settings.get("cron") or []:
        for event in job["calendar"]:
            if reason := host.systemd.calendar_error(event):
                what = f"the schedule {job['schedule']!r} of the job {job['name']} is none on this host: {reason}"
                raise HostError(what, "cron in deploy.yml", "systemd-analyze calendar tells; correct it there", USAGE)


def refuse_missing(app: App, release: str, settings: Settings) -> None:
    """Raises HostError for a job whose program is not in the release's tree."""
    for job in settings.get("cron") or []:
        if job["words"]:
            try:
                shell.program(app, release, job["words"])
            except HostError as error:
                what = f"the job {job['name']}: {error.what}"
                raise HostError(
                    what, "cron in deploy.yml", "name a program of the release, such as bin/report"
                ) from None
