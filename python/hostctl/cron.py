"""The app's jobs at their times: timers that follow the release that is live, and what becomes of each run.

A job's timer, or a person, starts its service, which is one unit however many ask: so no job ever runs twice at once.
The service is hostctl, which runs the program in a unit of its own beside the live instance, and writes down how it
ended. The units name no release: only a push that changes the jobs touches them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from hostctl import audit, files, journal, oneoff, records, shell
from hostctl.edges import Edges
from hostctl.errors import FAILED, LOCKED, USAGE, HostError
from hostctl.files import Json, make_directory, read_json, write_atomic, write_json
from hostctl.layout import PROGRAM, App
from hostctl.lock import Flock
from hostctl.systemd import Systemd

UNITS = "etc/systemd/system"
WANTS = f"{UNITS}/timers.target.wants"
STAMPS = "var/lib/systemd/timers"  # systemd keeps when a timer fired last as the time of a file (systemd.timer(5))
PATIENCE = 1800.0  # seconds that a job waits for the instance beside which it is to run
POLL = 1.0
GATE = 60.0  # seconds; who has the gate only begins or ends a job
OK, FAILURE, TIMEOUT, INTERRUPTED = "ok", "failed", "timeout", "interrupted"


class Running(Protocol):
    """A program at work."""

    def wait(self) -> int:
        """Its exit status, when it has ended."""


class Begun(NamedTuple):
    """A run of a job, of the release that was live when it began."""

    release: str
    job: Json
    program: Running


class Who(NamedTuple):
    """Who asks, and from where, for the audit."""

    name: str
    origin: str


def verb(app: App, action: str, names: Sequence[str], who: Who, edges: Edges) -> Json:
    """Do one of list, run, progress, suspend, resume. Raises HostError."""
    if action == "list":
        return {"jobs": every(app, edges)}
    if action == "progress":
        return progress(app, edges)
    if action in ("suspend", "resume"):
        return _suspend(app, names, action == "suspend", who, edges)
    if len(names) != 1:
        raise HostError("one job is run at a time", "the arguments", "deploy cron run NAME", USAGE)
    return run(app, names[0], who, edges)


# ---------------------------------------------------------------------------------------------- names and places


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


def _state(app: App) -> Path:
    return app.state / "cron"


def _last(app: App, name: str) -> Path:
    return _state(app) / "jobs" / f"{name}.json"


def jobs(app: App, release: str | None) -> list[Json]:
    """The jobs of a release, as its deploy.yml named them; none for no release, or one of before there were any."""
    record = read_json(app.record(release) / "record.json") if release else None
    return list((record or {}).get("settings", {}).get("cron") or [])


def _find(app: App, name: str, release: str | None) -> Json:
    known = jobs(app, release)
    found = next((job for job in known if job["name"] == name), None)
    if found is None:
        names = ", ".join(job["name"] for job in known) or "none"
        what = f"the live release has no job {name}; its jobs: {names}"
        raise HostError(what, str(app.live_link), "name it in cron in deploy.yml, and push", USAGE)
    return found


# ---------------------------------------------------------------------------------------------- before a push


def refuse(settings: Json, edges: Edges) -> None:
    """Raises HostError (usage) for a schedule that this host's systemd does not know, or whose time never comes."""
    for job in settings.get("cron") or []:
        for event in job["calendar"]:
            if reason := edges.systemd.not_a_time(event):
                what = f"the schedule {job['schedule']!r} of the job {job['name']} is none on this host: {reason}"
                raise HostError(what, "cron in deploy.yml", "systemd-analyze calendar tells; correct it there", USAGE)


def refuse_missing(app: App, release: str, settings: Json) -> None:
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


# ---------------------------------------------------------------------------------------------- the timers


def follow(app: App, release: str | None, edges: Edges, anew: Collection[str] = ()) -> None:
    """Make the timers those of a release; None for none. What is so already costs nothing. Raises HostError.

    Killed at any instant, it is done whole when it is called again. `anew` are jobs whose timers are started whatever
    is thought to be so.
    """
    known = jobs(app, release)
    if not known and not _held(app)["units"]:
        return
    make_directory(_state(app), 0o700)
    make_directory(_state(app) / "jobs", 0o700)
    with Flock(_state(app) / "gate", wait=GATE):
        held, asleep, lost = _held(app), suspended(app), {timer(app, name) for name in anew}
        active = [timer(app, job["name"]) for job in known if job["name"] not in asleep]
        wanted: Json = {"release": release, "units": texts(app, known), "active": active}
        held["active"] = [name for name in held["active"] if name not in lost]
        if {**wanted, "release": None} != {**held, "release": None}:
            # until it is done, the timers are those of neither: whichever comes next begins with all of them
            both = {**held["units"], **wanted["units"]}
            write_json(_state(app) / "timers.json", {"release": held["release"], "units": both, "active": []})
            _apply(app, held, wanted, edges)
        if wanted != held:
            write_json(_state(app) / "timers.json", wanted)


def _held(app: App) -> Json:
    """The timers as they were made last: the release they are of, the unit files, and which of them are at work."""
    return read_json(_state(app) / "timers.json") or {"release": None, "units": {}, "active": []}


def texts(app: App, wanted: Sequence[Json]) -> dict[str, str]:
    """The unit files of these jobs, by their names: one timer each, and one service for all; none for no job."""
    if not wanted:
        return {}
    return {service(app, ""): _service(app), **{timer(app, job["name"]): _timer(app, job) for job in wanted}}


def _service(app: App) -> str:
    return f"""[Unit]
Description=Homeport: the job %i of {app.name}
After=homeport-boot.service
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={PROGRAM} {app.name} cron run %i
"""


def _timer(app: App, job: Json) -> str:
    events = "".join(f"OnCalendar={event}\n" for event in job["calendar"])
    return f"""[Unit]
Description=Homeport: when the job {job["name"]} of {app.name} runs

[Timer]
{events}Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def _apply(app: App, held: Json, wanted: Json, edges: Edges) -> None:
    """Write what is to be, take away what is not, and have systemd read it."""
    directory, wants = app.layout.root / UNITS, app.layout.root / WANTS
    wants.mkdir(parents=True, exist_ok=True)
    for half in [path for place in (directory, wants) for path in place.glob(f".homeport-{app.name}-cron@*.new")]:
        half.unlink()
    gone = sorted({*held["units"]} - {*wanted["units"]})
    resting = [name for name in [*gone, *wanted["units"]] if name.endswith(".timer") and name not in wanted["active"]]
    for name in resting:
        edges.systemd.stop(name)
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
    edges.systemd.read_units()
    edges.systemd.restart(*fresh)


def _differs(name: str, held: Json, wanted: Json) -> bool:
    return bool(held["units"].get(name) != wanted["units"][name])


def _forgive(app: App, name: str) -> None:
    """A job that leaves, and comes back some day, begins with no failure against it."""
    told = read_json(_last(app, name))
    if told and told.get("failures"):
        write_json(_last(app, name), {**told, "failures": 0})


def _forget_the_past(app: App, name: str) -> None:
    """A timer that is new, or was suspended, does not make up for times at which it was not meant to fire."""
    stamps = app.layout.root / STAMPS
    stamps.mkdir(parents=True, exist_ok=True)
    (stamps / f"stamp-{name}").touch()


def suspended(app: App) -> set[str]:
    """The jobs that rest until somebody resumes them, whatever is pushed meanwhile."""
    return set((read_json(_state(app) / "suspended.json") or {}).get("jobs", []))


def _suspend(app: App, names: Sequence[str], rest: bool, who: Who, edges: Edges) -> Json:
    release = _held(app)["release"]
    before = suspended(app)
    for name in names:
        if rest or name not in before:
            _find(app, name, release)
    after = before | set(names) if rest else before - set(names)
    if after != before:
        write_json(_state(app) / "suspended.json", {"jobs": sorted(after)})
        audit.note(app, who.name, who.origin, f"cron {'suspend' if rest else 'resume'}", ", ".join(names))
    follow(app, release, edges, anew=() if rest else names)
    return {"jobs": every(app, edges)}


# ---------------------------------------------------------------------------------------------- a run


def run(app: App, name: str, who: Who, edges: Edges) -> Json:
    """Inside its service the run itself; from anywhere else that service is started, which needs no connection.

    Raises HostError when there is no such job, or it runs already.
    """
    if edges.systemd.running_inside(service(app, name)):
        return _run(app, name, edges)
    _find(app, name, app.live())
    if edges.systemd.show(service(app, name))[0].runs:
        raise HostError(f"the job {name} runs already", service(app, name), f"deploy cron logs {name} -f", LOCKED)
    begun = time.time()
    edges.systemd.start(service(app, name))
    audit.note(app, who.name, who.origin, "cron run", name)
    return {"started": begun}


def _run(app: App, name: str, edges: Edges) -> Json:
    """Run it, and write down how it ended; what kept it from beginning is how it ended as well."""
    before = read_json(_last(app, name)) or {}
    told: Json = {"begun": time.time(), "release": app.live(), "ended": None, "result": None, "status": None}
    write_json(_last(app, name), {**_kept(before), **told})
    try:
        begun = _begin(app, name, edges)
        told |= {"release": begun.release, **_ended(app, begun, edges)}
    except (HostError, OSError) as error:
        told |= {"result": FAILURE, "error": str(error)}
    told["ended"] = time.time()
    write_json(_last(app, name), {**_counted(_kept(before), told), **told})
    return {"job": name, **told}


def _ended(app: App, begun: Begun, edges: Edges) -> Json:
    clock = edges.clock()
    status = begun.program.wait()
    took = edges.clock() - clock
    stopped = (read_json(_last(app, begun.job["name"])) or {}).get("stopped", False)
    result = judged(status, took, begun.job["timeout"], stopped)
    return {"result": result, "status": status, "seconds": round(took, 3)}


def _kept(before: Json) -> Json:
    """What outlives a run: how many failed in a row, and when one went well."""
    return {"failures": before.get("failures", 0), "good": before.get("good")}


def _counted(kept: Json, told: Json) -> Json:
    if told["result"] == OK:
        return {"failures": 0, "good": told["ended"]}
    return {**kept, "failures": kept["failures"] + (told["result"] != INTERRUPTED)}


def sentence(told: Json) -> str:
    """How a run ended, as its log says it."""
    if told.get("error"):
        return f"{told['job']}: {told['error']}"
    status = f" with {told['status']}" if told["result"] == FAILURE else ""
    return f"{told['job']} of {told['release']}: {told['result']}{status} in {told['seconds']:.1f} s"


def judged(status: int, took: float, timeout: float, stopped: bool) -> str:
    """How a run ended. `stopped`: a transition has ended it; Erlang's runtime exits with 0 then."""
    if stopped:
        return INTERRUPTED
    if status == 0:
        return OK
    return TIMEOUT if took >= timeout else FAILURE


def _begin(app: App, name: str, edges: Edges) -> Begun:
    """Start the program as soon as it may run, in its own unit."""
    deadline = edges.clock() + PATIENCE
    while True:
        with Flock(_state(app) / "gate", wait=GATE):
            if not (reason := hindrance(app, edges)):
                return _launch(app, name, edges)
        if edges.clock() >= deadline:
            raise HostError(f"it could not begin: {reason}", service(app, name), "deploy status", FAILED)
        edges.sleep(POLL)


def _tell(app: App, name: str, **facts: object) -> None:
    """Write facts of a run down; only who has the gate does, until the run has ended."""
    write_json(_last(app, name), {**(read_json(_last(app, name)) or {}), **facts})


def exchanging(app: App) -> bool:
    """Whether a transition has stopped the app, or will in a moment, and is not decided yet."""
    return any(step["name"] == "stop" for entry in journal.unfinished(app) for step in entry.content["steps"])


def hindrance(app: App, edges: Edges) -> str:
    """Why no job may run now; "" for nothing. A job runs beside the live instance, never in place of it."""
    live = app.live()
    if exchanging(app):
        return "a transition has stopped the app"
    if live is None or edges.systemd.show(app.unit(live))[0].state != "active":
        return "the live instance does not run"
    return ""


def _launch(app: App, name: str, edges: Edges) -> Begun:
    live = oneoff.release(app)
    job = _find(app, name, live)
    edges.systemd.stop(unit(app, name))  # of a run whose service was killed
    _tell(app, name, release=live, stopped=False)
    environment = _state(app) / "jobs" / f"{name}.cred"
    more = {shell.EXPRESSION: job["expression"]} if job["expression"] else {}
    oneoff.write_environment(app, live, environment, f"cron-{name}", more)
    try:
        beside = oneoff.properties(app, live, f"cron-{name}", environment, edges)
        # it ends with its service, however that ends
        own = ["Type=exec", f"RuntimeMaxSec={job['timeout']:g}", f"BindsTo={service(app, name)}"]
        argv = oneoff.command(_argv(app, live, job))
        return Begun(live, job, edges.systemd.watched(unit(app, name), argv, [*beside, *own]))
    finally:
        files.unlink(environment)


def _argv(app: App, live: str, job: Json) -> list[str]:
    if job["words"]:
        return shell.program(app, live, job["words"])
    own = records.load(app, live)["settings"]["release_name"]
    return [str(app.tree(live) / "bin" / own), "eval", shell.EVAL]


def stop_all(app: App, edges: Edges) -> list[str]:
    """No job runs any more, and none begins until the transition that has stopped the app is decided.

    Returns those that ran. Its journal says already that it stops the app: whoever has the gate after this reads it.
    """
    if not _state(app).is_dir():
        return []
    with Flock(_state(app) / "gate", wait=GATE):
        running = at_work(app, edges.systemd)
        for name in running:
            _tell(app, name, stopped=True)
            edges.systemd.stop(unit(app, name))
    return sorted(running)


def at_work(app: App, systemd: Systemd) -> dict[str, str]:
    """The jobs that run, with their releases."""
    begun = {path.stem: read_json(path) or {} for path in sorted((_state(app) / "jobs").glob("*.json"))}
    open_ended = {name: str(told.get("release")) for name, told in begun.items() if told.get("ended") is None}
    seen = systemd.show(*(service(app, name) for name in open_ended))
    return {name: release for (name, release), told in zip(open_ended.items(), seen, strict=True) if told.runs}


# ---------------------------------------------------------------------------------------------- what is told


def every(app: App, edges: Edges) -> list[Json]:
    """Each job of the live release, its last run and its next; times in seconds since the epoch."""
    if not (known := jobs(app, app.live())):
        return []
    asleep, running = suspended(app), at_work(app, edges.systemd)
    timers = edges.systemd.elapses(*(timer(app, job["name"]) for job in known))
    return [
        _told(job, job["name"] in asleep, job["name"] in running, read_json(_last(app, job["name"])), *when)
        for job, when in zip(known, timers, strict=True)
    ]


def _told(job: Json, asleep: bool, runs: bool, last: Json | None, fires: bool, next_run: float | None) -> Json:
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


def progress(app: App, edges: Edges) -> Json:
    """Every job that ever ran, as the laptop asks for it until it ends; a push meanwhile may have taken it away."""
    running = at_work(app, edges.systemd)
    begun = {path.stem: ended(read_json(path), path.stem in running) for path in _state(app).glob("jobs/*.json")}
    known = dict.fromkeys(job["name"] for job in jobs(app, app.live())) | begun
    return {name: _progress(last, name in running) for name, last in known.items()}


def _progress(last: Json | None, runs: bool) -> Json:
    result = {"at": last["begun"], **last} if last and last["result"] else None
    return {"running": runs, "step": "", "result": result}
