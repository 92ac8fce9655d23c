"""Runs of jobs: each runs beside the live instance, one run of a job at a time.

A job's timer, or `deploy cron run`, starts the job's service. The service is hostctl: it runs the program in a unit of
its own and records how it ended.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from hostctl.common import files
from hostctl.common.documents import Job
from hostctl.common.errors import FAILED, LOCKED, HostError
from hostctl.common.files import Json, read_json, write_json
from hostctl.core import audit
from hostctl.core.actor import Actor
from hostctl.core.lock import Flock
from hostctl.core.paths import App
from hostctl.cron import jobs
from hostctl.cron.jobs import FAILURE, INTERRUPTED, OK, TIMEOUT
from hostctl.host.host import Host
from hostctl.host.systemd import Systemd
from hostctl.instance import one_off, shell
from hostctl.journal import journal
from hostctl.release import records

PATIENCE = 1800.0  # seconds that a job waits for the live instance to run
POLL = 1.0  # seconds


class Running(Protocol):
    """A running program."""

    def wait(self) -> int:
        """Wait until it has ended; returns its exit status."""


class Begun(NamedTuple):
    """A run of a job. `release`: the one that was live when it began."""

    release: str
    job: Job
    program: Running


def run(app: App, name: str, who: Actor, host: Host) -> Json:
    """Run the job when called in its service, and return the outcome; else start that service and return `started`.

    Raises HostError when there is no such job, or it runs already.
    """
    if host.systemd.running_inside(jobs.service(app, name)):
        return _run(app, name, host)
    jobs.find(app, name, app.live())
    if host.systemd.show(jobs.service(app, name))[0].runs:
        raise HostError(f"the job {name} runs already", jobs.service(app, name), f"deploy cron logs {name} -f", LOCKED)
    begun = time.time()
    host.systemd.start(jobs.service(app, name))
    audit.note(app, who.name, who.origin, "cron run", name)
    return {"started": begun}


def _run(app: App, name: str, host: Host) -> Json:
    """Run the job and record the outcome, also that of a run that could not begin."""
    before = read_json(jobs.last_run(app, name)) or {}
    outcome: Json = {"begun": time.time(), "release": app.live(), "ended": None, "result": None, "status": None}
    write_json(jobs.last_run(app, name), {**_history(before), **outcome})
    try:
        begun = _begin(app, name, host)
        outcome |= {"release": begun.release, **_wait_for_end(app, begun, host)}
    except (HostError, OSError) as error:
        outcome |= {"result": FAILURE, "error": str(error)}
    outcome["ended"] = time.time()
    write_json(jobs.last_run(app, name), {**_updated_history(_history(before), outcome), **outcome})
    return {"job": name, **outcome}


def _wait_for_end(app: App, begun: Begun, host: Host) -> Json:
    clock = host.clock()
    status = begun.program.wait()
    took = host.clock() - clock
    stopped = (read_json(jobs.last_run(app, begun.job["name"])) or {}).get("stopped", False)
    result = result_of(status, took, begun.job["timeout"], stopped)
    return {"result": result, "status": status, "seconds": round(took, 3)}


def _history(before: Json) -> Json:
    """The facts that one run passes to the next: failures in a row, and when a run last succeeded."""
    return {"failures": before.get("failures", 0), "good": before.get("good")}


def _updated_history(history: Json, outcome: Json) -> Json:
    if outcome["result"] == OK:
        return {"failures": 0, "good": outcome["ended"]}
    return {**history, "failures": history["failures"] + (outcome["result"] != INTERRUPTED)}


def sentence(outcome: Json) -> str:
    """The outcome of a run as a line for its log."""
    if outcome.get("error"):
        return f"{outcome['job']}: {outcome['error']}"
    status = f" with {outcome['status']}" if outcome["result"] == FAILURE else ""
    return f"{outcome['job']} of {outcome['release']}: {outcome['result']}{status} in {outcome['seconds']:.1f} s"


def result_of(status: int, took: float, timeout: float, stopped: bool) -> str:
    """The result of a run. `stopped`: a transition has stopped it; Erlang's runtime exits with 0 then."""
    if stopped:
        return INTERRUPTED
    if status == 0:
        return OK
    return TIMEOUT if took >= timeout else FAILURE


def _begin(app: App, name: str, host: Host) -> Begun:
    """Start the program in its own unit as soon as it may run. Raises HostError after PATIENCE."""
    deadline = host.clock() + PATIENCE
    while True:
        with Flock(jobs.directory(app) / "gate", wait=jobs.GATE):
            if not (reason := obstacle(app, host)):
                return _launch(app, name, host)
        if host.clock() >= deadline:
            raise HostError(f"it could not begin: {reason}", jobs.service(app, name), "deploy status", FAILED)
        host.sleep(POLL)


def _record(app: App, name: str, **facts: object) -> None:
    """Record facts of a run that has not ended. The caller holds the gate."""
    write_json(jobs.last_run(app, name), {**(read_json(jobs.last_run(app, name)) or {}), **facts})


def app_is_stopped(app: App) -> bool:
    """Whether an unfinished transition has stopped the app or is about to."""
    return any(step["name"] == "stop" for entry in journal.unfinished(app) for step in entry.content["steps"])


def obstacle(app: App, host: Host) -> str:
    """Why no job may run now; "" when one may. A job runs only beside the live instance."""
    live = app.live()
    if app_is_stopped(app):
        return "a transition has stopped the app"
    if live is None or host.systemd.show(app.unit(live))[0].state != "active":
        return "the live instance does not run"
    return ""


def _launch(app: App, name: str, host: Host) -> Begun:
    live = one_off.live_release(app)
    job = jobs.find(app, name, live)
    host.systemd.stop(jobs.unit(app, name))  # the unit of a run whose service was killed may still run
    _record(app, name, release=live, stopped=False)
    environment = jobs.directory(app) / "jobs" / f"{name}.cred"
    expression = {shell.EXPRESSION: job["expression"]} if job["expression"] else {}
    one_off.write_environment(app, live, environment, f"cron-{name}", expression)
    try:
        properties = one_off.properties(app, live, f"cron-{name}", environment, host)
        # BindsTo: the program ends with its service, however that ends
        own = ["Type=exec", f"RuntimeMaxSec={job['timeout']:g}", f"BindsTo={jobs.service(app, name)}"]
        argv = one_off.command(_argv(app, live, job))
        return Begun(live, job, host.systemd.spawn(jobs.unit(app, name), argv, [*properties, *own]))
    finally:
        files.unlink(environment)


def _argv(app: App, live: str, job: Job) -> list[str]:
    if job["words"]:
        return shell.program(app, live, job["words"])
    own = records.load(app, live)["settings"]["release_name"]
    return [str(app.tree(live) / "bin" / own), "eval", shell.EVAL]


def stop_all(app: App, host: Host) -> list[str]:
    """Stop every running job. Returns their names.

    None begins until the transition has ended: its journal names the step `stop`, and jobs read it in the gate.
    """
    if not jobs.directory(app).is_dir():
        return []
    with Flock(jobs.directory(app) / "gate", wait=jobs.GATE):
        running = running_jobs(app, host.systemd)
        for name in running:
            _record(app, name, stopped=True)
            host.systemd.stop(jobs.unit(app, name))
    return sorted(running)


def running_jobs(app: App, systemd: Systemd) -> dict[str, str]:
    """The releases of the jobs that run, by job."""
    begun = {path.stem: read_json(path) or {} for path in sorted((jobs.directory(app) / "jobs").glob("*.json"))}
    not_ended = {name: str(run.get("release")) for name, run in begun.items() if run.get("ended") is None}
    units = systemd.show(*(jobs.service(app, name) for name in not_ended))
    return {name: release for (name, release), unit in zip(not_ended.items(), units, strict=True) if unit.runs}
