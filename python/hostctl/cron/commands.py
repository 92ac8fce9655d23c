"""`hostctl APP cron ACTION`: list, run, progress, suspend, resume."""

from __future__ import annotations

from collections.abc import Sequence

from hostctl.common.documents import Job
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json, read_json
from hostctl.core.actor import Actor
from hostctl.core.paths import App
from hostctl.cron import jobs, runs, timers
from hostctl.cron.jobs import INTERRUPTED
from hostctl.host.host import Host


def perform(app: App, action: str, names: Sequence[str], who: Actor, host: Host) -> Json:
    """Perform an action. Returns its document. Raises HostError."""
    if action == "list":
        return {"jobs": status(app, host)}
    if action == "progress":
        return progress(app, host)
    if action in ("suspend", "resume"):
        timers.set_suspended(app, names, action == "suspend", who, host)
        return {"jobs": status(app, host)}
    if len(names) != 1:
        raise HostError("one job is run at a time: name exactly one", "the arguments", "deploy cron run NAME", USAGE)
    return runs.run(app, names[0], who, host)


def status(app: App, host: Host) -> list[Json]:
    """Each job of the live release with its last and next run; times in seconds since the epoch."""
    if not (known_jobs := jobs.of_release(app, app.live())):
        return []
    suspended, running = timers.suspended_names(app), runs.running_jobs(app, host.systemd)
    elapses = host.systemd.timer_states(*(jobs.timer(app, job["name"]) for job in known_jobs))
    return [
        _status(
            job, job["name"] in suspended, job["name"] in running, read_json(jobs.last_run(app, job["name"])), *when
        )
        for job, when in zip(known_jobs, elapses, strict=True)
    ]


def _status(job: Job, suspended: bool, running: bool, run: Json | None, fires: bool, next_run: float | None) -> Json:
    """`fires`: whether the timer is active."""
    document: Json = {"name": job["name"], "schedule": job["schedule"], "timeout": job["timeout"]}
    document |= {"command": job["words"] or None, "eval": job["expression"] or None}
    document |= {"suspended": suspended, "running": running, "fires": fires, "next_run": next_run}
    return document | {
        "failures": (run or {}).get("failures", 0),
        "good": (run or {}).get("good"),
        "last": last_run_of(run, running),
    }


def last_run_of(run: Json | None, running: bool) -> Json | None:
    """The last run; one that neither ended nor runs was interrupted, for example by a reboot."""
    if run is None:
        return None
    result = run["result"] or (None if running else INTERRUPTED)
    keys = ("begun", "release", "ended", "status", "seconds", "error")
    return {**{key: run.get(key) for key in keys}, "result": result}


def progress(app: App, host: Host) -> Json:
    """Whether each job runs, and its last result. Includes jobs that a push removed: the laptop may wait for one."""
    running = runs.running_jobs(app, host.systemd)
    begun = {
        path.stem: last_run_of(read_json(path), path.stem in running)
        for path in jobs.directory(app).glob("jobs/*.json")
    }
    known_jobs = dict.fromkeys(job["name"] for job in jobs.of_release(app, app.live())) | begun
    return {name: _progress(run, name in running) for name, run in known_jobs.items()}


def _progress(run: Json | None, running: bool) -> Json:
    result = {"at": run["begun"], **run} if run and run["result"] else None
    return {"running": running, "step": "", "result": result}
