"""`hostctl APP cron ACTION`: the app's jobs at their times.

Which there are is in `cron_jobs`, when they run in `cron_timers`, and how in `cron_runs`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostctl.common.documents import Job
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, read_json
from hostctl.core.paths import App
from hostctl.cron import jobs, runs
from hostctl.cron import timers as cron_timers
from hostctl.cron.jobs import INTERRUPTED, Who
from hostctl.host.host import Host


def verb(app: App, action: str, names: Sequence[str], who: Who, host: Host) -> Json:
    """Do one of list, run, progress, suspend, resume. Raises HostError."""
    if action == "list":
        return {"jobs": every(app, host)}
    if action == "progress":
        return progress(app, host)
    if action in ("suspend", "resume"):
        cron_timers.suspend(app, names, action == "suspend", who, host)
        return {"jobs": every(app, host)}
    if len(names) != 1:
        raise HostError("one job is run at a time", "the arguments", "deploy cron run NAME", USAGE)
    return runs.run(app, names[0], who, host)


def every(app: App, host: Host) -> list[Json]:
    """Each job of the live release, its last run and its next; times in seconds since the epoch."""
    if not (known := jobs.jobs(app, app.live())):
        return []
    asleep, running = cron_timers.suspended(app), runs.at_work(app, host.systemd)
    timers = host.systemd.timer_states(*(jobs.timer(app, job["name"]) for job in known))
    return [
        _told(job, job["name"] in asleep, job["name"] in running, read_json(jobs.last(app, job["name"])), *when)
        for job, when in zip(known, timers, strict=True)
    ]


def _told(job: Job, asleep: bool, runs: bool, last: Json | None, fires: bool, next_run: float | None) -> Json:
    """`fires`: whether systemd has the timer at work."""
    told = {"name": job["name"], "schedule": job["schedule"], "timeout": job["timeout"]}
    told |= {"command": job["words"] or None, "eval": job["expression"] or None}
    told |= {"suspended": asleep, "running": runs, "fires": fires, "next_run": next_run}
    return told | {
        "failures": (last or {}).get("failures", 0),
        "good": (last or {}).get("good"),
        "last": ended(last, runs),
    }


def ended(last: Json | None, runs: bool) -> Json | None:
    """The run that began last; one that neither ended nor runs was cut short, by a reboot perhaps."""
    if last is None:
        return None
    result = last["result"] or (None if runs else INTERRUPTED)
    keys = ("begun", "release", "ended", "status", "seconds", "error")
    return {**{key: last.get(key) for key in keys}, "result": result}


def progress(app: App, host: Host) -> Json:
    """Every job that ever ran, as the laptop asks for it until it ends; a push meanwhile may have taken it away."""
    running = runs.at_work(app, host.systemd)
    begun = {path.stem: ended(read_json(path), path.stem in running) for path in jobs.state(app).glob("jobs/*.json")}
    known = dict.fromkeys(job["name"] for job in jobs.jobs(app, app.live())) | begun
    return {name: _progress(last, name in running) for name, last in known.items()}


def _progress(last: Json | None, runs: bool) -> Json:
    result = {"at": last["begun"], **last} if last and last["result"] else None
    return {"running": runs, "step": "", "result": result}
