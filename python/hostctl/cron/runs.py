"""A run of a job: how it begins, beside the live instance and never twice at once, and what becomes of it.

A job's timer, or a person, starts its service, which is one unit however many ask. The service is hostctl, which runs
the program in a unit of its own, and writes down how it ended.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from hostctl.common import files
from hostctl.common.documents import Job
from hostctl.common.errors import FAILED, LOCKED, HostError
from hostctl.common.files import Json, read_json, write_json
from hostctl.core import audit
from hostctl.core.lock import Flock
from hostctl.core.paths import App
from hostctl.cron import jobs
from hostctl.cron.jobs import FAILURE, INTERRUPTED, OK, TIMEOUT, Who
from hostctl.host.host import Host
from hostctl.host.systemd import Systemd
from hostctl.instance import one_off, shell
from hostctl.journal import journal
from hostctl.release import records

PATIENCE = 1800.0  # seconds that a job waits for the instance beside which it is to run
POLL = 1.0


class Running(Protocol):
    """A program at work."""

    def wait(self) -> int:
        """Its exit status, when it has ended."""


class Begun(NamedTuple):
    """A run of a job, of the release that was live when it began."""

    release: str
    job: Job
    program: Running


def run(app: App, name: str, who: Who, host: Host) -> Json:
    """Inside its service the run itself; from anywhere else that service is started, which needs no connection.

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
    """Run it, and write down how it ended; what kept it from beginning is how it ended as well."""
    before = read_json(jobs.last(app, name)) or {}
    told: Json = {"begun": time.time(), "release": app.live(), "ended": None, "result": None, "status": None}
    write_json(jobs.last(app, name), {**_kept(before), **told})
    try:
        begun = _begin(app, name, host)
        told |= {"release": begun.release, **_ended(app, begun, host)}
    except (HostError, OSError) as error:
        told |= {"result": FAILURE, "error": str(error)}
    told["ended"] = time.time()
    write_json(jobs.last(app, name), {**_counted(_kept(before), told), **told})
    return {"job": name, **told}


def _ended(app: App, begun: Begun, host: Host) -> Json:
    clock = host.clock()
    status = begun.program.wait()
    took = host.clock() - clock
    stopped = (read_json(jobs.last(app, begun.job["name"])) or {}).get("stopped", False)
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


def _begin(app: App, name: str, host: Host) -> Begun:
    """Start the program as soon as it may run, in its own unit."""
    deadline = host.clock() + PATIENCE
    while True:
        with Flock(jobs.state(app) / "gate", wait=jobs.GATE):
            if not (reason := hindrance(app, host)):
                return _launch(app, name, host)
        if host.clock() >= deadline:
            raise HostError(f"it could not begin: {reason}", jobs.service(app, name), "deploy status", FAILED)
        host.sleep(POLL)


def _tell(app: App, name: str, **facts: object) -> None:
    """Write facts of a run down; only who has the gate does, until the run has ended."""
    write_json(jobs.last(app, name), {**(read_json(jobs.last(app, name)) or {}), **facts})


def exchanging(app: App) -> bool:
    """Whether a transition has stopped the app, or will in a moment, and is not decided yet."""
    return any(step["name"] == "stop" for entry in journal.unfinished(app) for step in entry.content["steps"])


def hindrance(app: App, host: Host) -> str:
    """Why no job may run now; "" for nothing. A job runs beside the live instance, never in place of it."""
    live = app.live()
    if exchanging(app):
        return "a transition has stopped the app"
    if live is None or host.systemd.show(app.unit(live))[0].state != "active":
        return "the live instance does not run"
    return ""


def _launch(app: App, name: str, host: Host) -> Begun:
    live = one_off.live_release(app)
    job = jobs.find(app, name, live)
    host.systemd.stop(jobs.unit(app, name))  # of a run whose service was killed
    _tell(app, name, release=live, stopped=False)
    environment = jobs.state(app) / "jobs" / f"{name}.cred"
    more = {shell.EXPRESSION: job["expression"]} if job["expression"] else {}
    one_off.write_environment(app, live, environment, f"cron-{name}", more)
    try:
        beside = one_off.properties(app, live, f"cron-{name}", environment, host)
        # it ends with its service, however that ends
        own = ["Type=exec", f"RuntimeMaxSec={job['timeout']:g}", f"BindsTo={jobs.service(app, name)}"]
        argv = one_off.command(_argv(app, live, job))
        return Begun(live, job, host.systemd.watched(jobs.unit(app, name), argv, [*beside, *own]))
    finally:
        files.unlink(environment)


def _argv(app: App, live: str, job: Job) -> list[str]:
    if job["words"]:
        return shell.program(app, live, job["words"])
    own = records.load(app, live)["settings"]["release_name"]
    return [str(app.tree(live) / "bin" / own), "eval", shell.EVAL]


def stop_all(app: App, host: Host) -> list[str]:
    """No job runs any more, and none begins until the transition that has stopped the app is decided.

    Returns those that ran. Its journal says already that it stops the app: whoever has the gate after this reads it.
    """
    if not jobs.state(app).is_dir():
        return []
    with Flock(jobs.state(app) / "gate", wait=jobs.GATE):
        running = at_work(app, host.systemd)
        for name in running:
            _tell(app, name, stopped=True)
            host.systemd.stop(jobs.unit(app, name))
    return sorted(running)


def at_work(app: App, systemd: Systemd) -> dict[str, str]:
    """The jobs that run, with their releases."""
    begun = {path.stem: read_json(path) or {} for path in sorted((jobs.state(app) / "jobs").glob("*.json"))}
    open_ended = {name: str(told.get("release")) for name, told in begun.items() if told.get("ended") is None}
    seen = systemd.show(*(jobs.service(app, name) for name in open_ended))
    return {name: release for (name, release), told in zip(open_ended.items(), seen, strict=True) if told.runs}
