"""The timers of the live release's jobs. They name no release, so only a push that changes the jobs changes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hostctl.common import files
from hostctl.common.documents import Job
from hostctl.common.files import Json, make_directory, read_json, write_atomic, write_json
from hostctl.core import audit
from hostctl.core.actor import Actor
from hostctl.core.lock import Flock
from hostctl.core.paths import PROGRAM, App
from hostctl.cron import jobs
from hostctl.host.host import Host

UNITS = "etc/systemd/system"
WANTS = f"{UNITS}/timers.target.wants"
STAMPS = "var/lib/systemd/timers"  # files whose times record when each timer last elapsed (systemd.timer(5))


def apply(app: App, release: str | None, host: Host, restarted: Collection[str] = ()) -> None:
    """Install the timers of a release, or remove them for None. Does nothing when they are installed. Raises HostError.

    After a kill, the next call does all of it. The timers of the jobs `restarted` are started in any case.
    """
    known = jobs.of_release(app, release)
    if not known and not applied_timers(app)["units"]:
        return
    make_directory(jobs.directory(app), 0o700)
    make_directory(jobs.directory(app) / "jobs", 0o700)
    with Flock(jobs.directory(app) / "gate", wait=jobs.GATE):
        applied, resting = applied_timers(app), suspended_names(app)
        unstarted = {jobs.timer(app, name) for name in restarted}
        active = [jobs.timer(app, job["name"]) for job in known if job["name"] not in resting]
        target: Json = {"release": release, "units": unit_files(app, known), "active": active}
        applied["active"] = [name for name in applied["active"] if name not in unstarted]
        if {**target, "release": None} != {**applied, "release": None}:
            # until it is done, the record names the units of both: after a kill the next call replaces all of them
            both = {**applied["units"], **target["units"]}
            write_json(
                jobs.directory(app) / "timers.json", {"release": applied["release"], "units": both, "active": []}
            )
            _install(app, applied, target, host)
        if target != applied:
            write_json(jobs.directory(app) / "timers.json", target)


def applied_timers(app: App) -> Json:
    """The record of the last `apply`: the `release`, its unit files (`units`), and the timers that are `active`."""
    return read_json(jobs.directory(app) / "timers.json") or {"release": None, "units": {}, "active": []}


def unit_files(app: App, known: Sequence[Job]) -> dict[str, str]:
    """The unit files of the jobs, by name: a timer for each and one service template; none without jobs."""
    if not known:
        return {}
    return {
        jobs.service(app, ""): _service_text(app),
        **{jobs.timer(app, job["name"]): _timer_text(app, job) for job in known},
    }


def _service_text(app: App) -> str:
    return f"""[Unit]
Description=Homeport: the job %i of {app.name}
After=homeport-boot.service
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={PROGRAM} {app.name} cron run %i
"""


def _timer_text(app: App, job: Job) -> str:
    events = "".join(f"OnCalendar={event}\n" for event in job["calendar"])
    return f"""[Unit]
Description=Homeport: when the job {job["name"]} of {app.name} runs

[Timer]
{events}Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def _install(app: App, applied: Json, target: Json, host: Host) -> None:
    """Write and remove unit files, start and stop timers, and reload systemd."""
    directory, wants = app.layout.root / UNITS, app.layout.root / WANTS
    wants.mkdir(parents=True, exist_ok=True)
    for unfinished in [path for place in (directory, wants) for path in place.glob(f".homeport-{app.name}-cron@*.new")]:
        unfinished.unlink()
    gone = sorted({*applied["units"]} - {*target["units"]})
    resting = [name for name in [*gone, *target["units"]] if name.endswith(".timer") and name not in target["active"]]
    for name in resting:
        host.systemd.stop(name)
        files.unlink(wants / name)
    for name in gone:
        files.unlink(directory / name)
        files.unlink(app.layout.root / STAMPS / f"stamp-{name}")
        _reset_failures(app, name.partition("@")[2].removesuffix(".timer"))
    for name, text in target["units"].items():
        write_atomic(directory / name, text.encode(), 0o644)
    fresh = [name for name in target["active"] if name not in applied["active"] or _differs(name, applied, target)]
    for name in fresh:
        _reset_stamp(app, name)
        files.point(wants / name, f"../{name}")
    host.systemd.daemon_reload()
    host.systemd.restart(*fresh)


def _differs(name: str, applied: Json, target: Json) -> bool:
    return bool(applied["units"].get(name) != target["units"][name])


def _reset_failures(app: App, name: str) -> None:
    """Forget the failures of a job that is removed: if it is added again, it begins with none."""
    run = read_json(jobs.last_run(app, name))
    if run and run.get("failures"):
        write_json(jobs.last_run(app, name), {**run, "failures": 0})


def _reset_stamp(app: App, name: str) -> None:
    """Set the time at which a timer last elapsed to now: a new or resumed timer catches up on nothing."""
    stamps = app.layout.root / STAMPS
    stamps.mkdir(parents=True, exist_ok=True)
    (stamps / f"stamp-{name}").touch()


def suspended_names(app: App) -> set[str]:
    """The names of the suspended jobs. A push does not resume them."""
    return set((read_json(jobs.directory(app) / "suspended.json") or {}).get("jobs", []))


def set_suspended(app: App, names: Sequence[str], suspended: bool, who: Actor, host: Host) -> None:
    """Suspend or resume jobs of the live release. Raises HostError (usage) for an unknown job."""
    release = applied_timers(app)["release"]
    before = suspended_names(app)
    for name in names:
        if suspended or name not in before:
            jobs.find(app, name, release)
    after = before | set(names) if suspended else before - set(names)
    if after != before:
        write_json(jobs.directory(app) / "suspended.json", {"jobs": sorted(after)})
        audit.note(app, who.name, who.origin, f"cron {'suspend' if suspended else 'resume'}", ", ".join(names))
    apply(app, release, host, restarted=() if suspended else names)
