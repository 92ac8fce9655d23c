"""The scheduled jobs of a release, and the names of their units and files."""

from __future__ import annotations

from pathlib import Path

from hostctl.common.documents import Job, Settings
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import read_json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.instance import shell

GATE = 60.0  # seconds to wait for the gate, the lock under which jobs begin and end and timers change
OK, FAILURE, TIMEOUT, INTERRUPTED = "ok", "failed", "timeout", "interrupted"


def service(app: App, name: str) -> str:
    """The unit that a job's timer starts. No other app has a unit of this name: names of apps contain no @."""
    return f"homeport-{app.name}-cron@{name}.service"


def timer(app: App, name: str) -> str:
    """The timer of a job."""
    return service(app, name).removesuffix(".service") + ".timer"


def unit(app: App, name: str) -> str:
    """The unit that runs the job's program."""
    return f"homeport-{app.name}-job@{name}.service"


def units(app: App, name: str) -> tuple[str, ...]:
    """The units whose output is a job's log; `name` may be the pattern *."""
    return service(app, name), unit(app, name)


def directory(app: App) -> Path:
    """Where the timers and last runs of the app's jobs are recorded."""
    return app.state / "cron"


def last_run(app: App, name: str) -> Path:
    """The file that records the last run of a job."""
    return directory(app) / "jobs" / f"{name}.json"


def of_release(app: App, release: str | None) -> list[Job]:
    """The jobs of a release; none without a release, and for a release that is older than jobs."""
    record = read_json(app.record(release) / "record.json") if release else None
    return list((record or {}).get("settings", {}).get("cron") or [])


def find(app: App, name: str, release: str | None) -> Job:
    """The job of that name. Raises HostError (usage) when the release has none."""
    known = of_release(app, release)
    job = next((job for job in known if job["name"] == name), None)
    if job is None:
        names = ", ".join(job["name"] for job in known) or "none"
        what = f"the live release has no job {name}; its jobs: {names}"
        raise HostError(what, str(app.live_link), "add it to cron in deploy.yml, then deploy push", USAGE)
    return job


def refuse_schedules(settings: Settings, host: Host) -> None:
    """Raises HostError (usage) for a schedule that this host's systemd does not accept, or that never elapses."""
    for job in settings.get("cron") or []:
        for event in job["calendar"]:
            if reason := host.systemd.calendar_error(event):
                what = f"the schedule {job['schedule']!r} of the job {job['name']} is not valid on this host: {reason}"
                raise HostError(
                    what, "cron in deploy.yml", "correct it there; systemd-analyze calendar checks it", USAGE
                )


def refuse_programs(app: App, release: str, settings: Settings) -> None:
    """Raises HostError for a job whose program is not in the release's tree."""
    for job in settings.get("cron") or []:
        if job["words"]:
            try:
                shell.program(app, release, job["words"])
            except HostError as error:
                what = f"the job {job['name']}: {error.what}"
                fix = "name a program of the release, such as bin/report"
                raise HostError(what, "cron in deploy.yml", fix) from None
