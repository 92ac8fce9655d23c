"""deploy cron: the app's scheduled jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from homeport.core.errors import ExitCode
from homeport.options.options import Options, a_job, as_json, common, listing
from homeport.verbs.logs import a_pattern
from hostctl.common.documents import Json
from hostctl.common.table import columns
from hostctl.common.timestamps import iso

if TYPE_CHECKING:
    from homeport.remote.session import Session

EPILOG = """Examples:

  deploy cron

  deploy cron run report          (now, and show its output; its timer is not changed)

  deploy cron suspend report      (until it is resumed, also across pushes)

  deploy cron logs report -f

  deploy cron list --json | jq '.[] | select(.failures > 0)'
"""


_names = click.argument("names", nargs=-1, required=True, metavar="NAME...", callback=a_job)
_name = click.argument("name", callback=a_job)


@listing(EPILOG, "List the jobs: the schedule, the last run and the next run of each.")
def command(options: Options, as_json: bool) -> None:
    """List the jobs of the live release with their last and next runs; run, suspend or resume jobs.

    The jobs are those of `cron` in deploy.yml at the push of the live release. A rollback brings back the jobs of the
    earlier release.
    """
    from homeport.remote.session import begin

    _show(begin(options).hostctl.call("cron", "list"), as_json)


def _show(answer: Json, as_json: bool) -> None:
    from homeport.core.timestamps import with_iso_times

    jobs = with_iso_times(answer["jobs"])
    print(json.dumps(jobs) if as_json else "\n".join(table(jobs)))


@command.command()
@_name
@click.option("--detach", is_flag=True, help="Do not wait until it ends.")
@as_json
@common
def run(options: Options, name: str, detach: bool, as_json: bool) -> None:
    """Run one job now, as its timer would, and show its output. Exit status 0 only if the job succeeded.

    Refused while the job is running. A suspended job can be run, too.
    """
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin

    session = begin(options)
    started = session.hostctl.call("cron", "run", name, *performer_options())["started"]
    if not detach:
        _wait(session, name, started, as_json)
    elif as_json:
        print(json.dumps({"job": name, "started": iso(started)}))
    else:
        print(f"{name} is running; its output: deploy cron logs {name}")


def _wait(session: Session, name: str, started: float, as_json: bool) -> NoReturn:
    """Wait until the job has ended, show its result, and exit with the status that it means."""
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.long_jobs import follow
    from homeport.screen.screen import Screen

    screen = Screen(quiet=session.options.quiet)
    screen.begin(name)
    ended = follow(session.hostctl, name, started, screen.note, verb="cron")
    good = ended["result"] == "ok"
    screen.end(name, "" if good else ended["error"] or ended["result"], ok=good)
    if as_json:
        print(json.dumps(with_iso_times({"job": name, **{key: value for key, value in ended.items() if key != "at"}})))
    else:
        _log(session, name, started)
    sys.exit(ExitCode.DONE if good else ExitCode.FAILED)


def _log(session: Session, name: str, started: float) -> None:
    """Print the log of the run on this terminal."""
    from homeport.ssh import connection

    words = session.hostctl.command("logs", "--job", name, f"--since={int(started)}", "-n", "1000")
    subprocess.run(connection.command(session.target, words), stdin=subprocess.DEVNULL, check=False)


@command.command()
@_names
@as_json
@common
def suspend(options: Options, names: tuple[str, ...], as_json: bool) -> None:
    """Suspend jobs until they are resumed. Neither a push nor a reboot resumes them."""
    _change(options, "suspend", names, as_json)


@command.command()
@_names
@as_json
@common
def resume(options: Options, names: tuple[str, ...], as_json: bool) -> None:
    """Resume suspended jobs from their next scheduled time on. Missed runs are not made up for."""
    _change(options, "resume", names, as_json)


def _change(options: Options, action: str, names: tuple[str, ...], as_json: bool) -> None:
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin

    _show(
        begin(options).hostctl.call("cron", action, *names, *performer_options()),
        as_json,
    )


@command.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines.")
@click.option(
    "--grep", callback=a_pattern, metavar="REGEX", help="Only lines that match; case matters if REGEX has capitals."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@common
def logs(options: Options, name: str, follow: bool, count: int, grep: str | None, as_json: bool) -> None:
    """Show the log of one job. `deploy logs cron` shows the logs of all jobs."""
    from homeport.remote.interactive import attach
    from homeport.remote.session import begin

    args = ["--job", name, "-n", str(count), *(["-f"] if follow else []), *(["--json"] if as_json else [])]
    attach(begin(options), ["logs", *args, *([f"--grep={grep}"] if grep else [])], f"deploy cron logs {name}")


# ---------------------------------------------------------------------------------------------- lines


def table(jobs: list[Json]) -> list[str]:
    """The jobs as lines of columns."""
    if not jobs:
        return ["the live release has no jobs; add them to cron in deploy.yml, then run deploy push"]
    return columns([("NAME", "SCHEDULE", "LAST", "RESULT", "NEXT"), *map(_row, jobs)])


def _row(job: Json) -> tuple[str, ...]:
    last = job["last"]
    return job["name"], job["schedule"], last["begun"] if last else "never", result(job), _next(job)


def result(job: Json) -> str:
    """The result of the last run; "runs" while the job is running, "-" if it never ran."""
    last = job["last"]
    if job["running"]:
        return "runs"
    if last is None:
        return "-"
    took = f" in {last['seconds']:.1f} s" if last["seconds"] is not None else ""
    status = f" with {last['status']}" if last["result"] == "failed" and last["status"] is not None else ""
    row = f", {job['failures']} in a row" if job["failures"] > 1 else ""
    return f"{last['result']}{status}{took}{row}"


def _next(job: Json) -> str:
    if job["suspended"]:
        return "SUSPENDED"
    return job["next_run"] or ("when it has ended" if job["running"] else "NO TIMER")


def line(jobs: list[Json]) -> str:
    """A summary of all jobs, for `deploy status`."""
    failed = [f"{job['name']} FAILED" for job in jobs if job["failures"]]
    suspended = [f"{job['name']} suspended" for job in jobs if job["suspended"]]
    coming = sorted((job["next_run"], job["name"]) for job in jobs if job["next_run"])
    nearest = [f"next {coming[0][1]} at {coming[0][0]}"] if coming else []
    return "; ".join([f"{len(jobs)} job{'s' * (len(jobs) != 1)}", *nearest, *suspended, *failed])
