"""Timers that follow the release that is live. They name no release: only a push that changes the jobs touches them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hostctl.common import files
from hostctl.common.documents import Job
from hostctl.common.files import Json, make_directory, read_json, write_atomic, write_json
from hostctl.core import audit
from hostctl.core.lock import Flock
from hostctl.core.paths import PROGRAM, App
from hostctl.cron import jobs
from hostctl.cron.jobs import Who
from hostctl.host.host import Host

UNITS = "etc/systemd/system"
WANTS = f"{UNITS}/timers.target.wants"
STAMPS = "var/lib/systemd/timers"  # systemd keeps when a timer fired last as the time of a file (systemd.timer(5))


def follow(app: App, release: str | None, host: Host, anew: Collection[str] = ()) -> None:
    """Make the timers those of a release; None for none. What is so already costs nothing. Raises HostError.

    Killed at any instant, it is done whole when it is called again. `anew` are jobs whose timers are started whatever
    is thought to be so.
    """
    known = jobs.jobs(app, release)
    if not known and not made(app)["units"]:
        return
    make_directory(jobs.state(app), 0o700)
    make_directory(jobs.state(app) / "jobs", 0o700)
    with Flock(jobs.state(app) / "gate", wait=jobs.GATE):
        held, asleep, lost = made(app), suspended(app), {jobs.timer(app, name) for name in anew}
        active = [jobs.timer(app, job["name"]) for job in known if job["name"] not in asleep]
        wanted: Json = {"release": release, "units": texts(app, known), "active": active}
        held["active"] = [name for name in held["active"] if name not in lost]
        if {**wanted, "release": None} != {**held, "release": None}:
            # until it is done, the timers are those of neither: whichever comes next begins with all of them
            both = {**held["units"], **wanted["units"]}
            write_json(jobs.state(app) / "timers.json", {"release": held["release"], "units": both, "active": []})
            _apply(app, held, wanted, host)
        if wanted != held:
            write_json(jobs.state(app) / "timers.json", wanted)


def made(app: App) -> Json:
    """The timers as they were made last: the release they are of, the unit files, and which of them are at work."""
    return read_json(jobs.state(app) / "timers.json") or {"release": None, "units": {}, "active": []}


def texts(app: App, wanted: Sequence[Job]) -> dict[str, str]:
    """The unit files of these jobs, by their names: one timer each, and one service for all; none for no job."""
    if not wanted:
        return {}
    return {
        jobs.service(app, ""): _service_text(app),
        **{jobs.timer(app, job["name"]): _timer_text(app, job) for job in wanted},
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


def _apply(app: App, held: Json, wanted: Json, host: Host) -> None:
    """Write what is to be, take away what is not, and have systemd read it."""
    directory, wants = app.layout.root / UNITS, app.layout.root / WANTS
    wants.mkdir(parents=True, exist_ok=True)
    for half in [path for place in (directory, wants) for path in place.glob(f".homeport-{app.name}-cron@*.new")]:
        half.unlink()
    gone = sorted({*held["units"]} - {*wanted["units"]})
    resting = [name for name in [*gone, *wanted["units"]] if name.endswith(".timer") and name not in wanted["active"]]
    for name in resting:
        host.systemd.stop(name)
        files.unlink(wants / name)
    for name in gone:
        files.unlink(directory / name)
        files.unlink(app.layout.root / STAMPS / f"stamp-{name}")
        _forgive(app, name.partition("@")[2].removesuffix(".timer"))
    for name, text in wanted["units"].items():
        write_atomic(directory / name, text.encode(), 0o644)
    fresh = [name for name in wanted["active"] if name not in held["active"] or _differs(name, held, wanted)]
    for name in fresh:
        _forget_the_past(app, name)
        files.point(wants / name, f"../{name}")
    host.systemd.daemon_reload()
    host.systemd.restart(*fresh)


def _differs(name: str, held: Json, wanted: Json) -> bool:
    return bool(held["units"].get(name) != wanted["units"][name])


def _forgive(app: App, name: str) -> None:
    """A job that leaves, and comes back some day, begins with no failure against it."""
    told = read_json(jobs.last(app, name))
    if told and told.get("failures"):
        write_json(jobs.last(app, name), {**told, "failures": 0})


def _forget_the_past(app: App, name: str) -> None:
    """A timer that is new, or was suspended, does not make up for times at which it was not meant to fire."""
    stamps = app.layout.root / STAMPS
    stamps.mkdir(parents=True, exist_ok=True)
    (stamps / f"stamp-{name}").touch()


def suspended(app: App) -> set[str]:
    """The jobs that rest until somebody resumes them, whatever is pushed meanwhile."""
    return set((read_json(jobs.state(app) / "suspended.json") or {}).get("jobs", []))


def suspend(app: App, names: Sequence[str], rest: bool, who: Who, host: Host) -> None:
    """Let jobs of the live release rest, or have them run again. Raises HostError (usage) for one that is none."""
    release = made(app)["release"]
    before = suspended(app)
    for name in names:
        if rest or name not in before:
            jobs.find(app, name, release)
    after = before | set(names) if rest else before - set(names)
    if after != before:
        write_json(jobs.state(app) / "suspended.json", {"jobs": sorted(after)})
        audit.note(app, who.name, who.origin, f"cron {'suspend' if rest else 'resume'}", ", ".join(names))
    follow(app, release, host, anew=() if rest else names)
