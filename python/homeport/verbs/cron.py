"""deploy cron: the app's jobs at their times."""

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

  deploy cron run report          (now, and see what it writes; its timer goes on as before)

  deploy cron suspend report      (until it is resumed, whatever is pushed meanwhile)

  deploy cron logs report -f

  deploy cron list --json | jq '.[] | select(.failures > 0)'
"""


_names = click.argument("names", nargs=-1, required=True, metavar="NAME...", callback=a_job)
_name = click.argument("name", callback=a_job)


@listing(EPILOG, "List every job: its schedule, how its last run ended, and when it runs next.")
def command(options: Options, as_json: bool) -> None:
    """List the jobs of the live release with their last run and their next, run one, or let them rest.

    The jobs are those of `cron` in deploy.yml as it was at the push of what is live. A rollback brings back its own.
    """
    from homeport.remote.session import begin

    _show(begin(options).hostctl.call("cron", "list"), as_json)


def _show(answer: Json, as_json: bool) -> None:
    from homeport.core.timestamps import dated

    found = dated(answer["jobs"])
    print(json.dumps(found) if as_json else "\n".join(table(found)))


@command.command()
@_name
@click.option("--detach", is_flag=True, help="Do not wait for its end.")
@as_json
@common
def run(options: Options, name: str, detach: bool, as_json: bool) -> None:
    """Run one job now, as its timer would, and show what it writes. Exit status 0 only if it went well.

    Refused while it runs already. One that is suspended can be run as well.
    """
    from homeport.core.performer import here, who
    from homeport.remote.session import begin

    session = begin(options)
    started = session.hostctl.call("cron", "run", name, "--who", who(), "--from", here())["started"]
    if not detach:
        _to_its_end(session, name, started, as_json)
    elif as_json:
        print(json.dumps({"job": name, "started": iso(started)}))
    else:
        print(f"{name} runs; deploy cron logs {name} shows what it writes")


def _to_its_end(session: Session, name: str, started: float, as_json: bool) -> NoReturn:
    """Wait for it, show how it ended, and leave with what that means as exit status."""
    from homeport.core.timestamps import dated
    from homeport.remote.long_jobs import follow
    from homeport.screen.screen import Screen

    screen = Screen(quiet=session.options.quiet)
    screen.begin(name)
    told = follow(session.hostctl, name, started, screen.note, of="cron")
    good = told["result"] == "ok"
    screen.end(name, "" if good else told["error"] or told["result"], ok=good)
    if as_json:
        print(json.dumps(dated({"job": name, **{key: value for key, value in told.items() if key != "at"}})))
    else:
        _log(session, name, started)
    sys.exit(ExitCode.DONE if good else ExitCode.FAILED)


def _log(session: Session, name: str, started: float) -> None:
    """What the run wrote, on this terminal."""
    from homeport.ssh import connection

    words = session.hostctl.command("logs", "--job", name, f"--since={int(started)}", "-n", "1000")
    subprocess.run(connection.command(session.target, words), stdin=subprocess.DEVNULL, check=False)


@command.command()
@_names
@as_json
@common
def suspend(options: Options, names: tuple[str, ...], as_json: bool) -> None:
    """Let jobs rest until they are resumed. Neither a push nor a reboot wakes them."""
    _change(options, "suspend", names, as_json)


@command.command()
@_names
@as_json
@common
def resume(options: Options, names: tuple[str, ...], as_json: bool) -> None:
    """Have suspended jobs run again, from their next time on: what was missed is not made up for."""
    _change(options, "resume", names, as_json)


def _change(options: Options, action: str, names: tuple[str, ...], as_json: bool) -> None:
    from homeport.core.performer import here, who
    from homeport.remote.session import begin

    _show(begin(options).hostctl.call("cron", action, *names, "--who", who(), "--from", here()), as_json)


@command.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines.")
@click.option("--grep", callback=a_pattern, metavar="REGEX", help="Those that match; capitals count if it has any.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@common
def logs(options: Options, name: str, follow: bool, count: int, grep: str | None, as_json: bool) -> None:
    """Show what one job writes. `deploy logs cron` shows that of all."""
    from homeport.remote.interactive import attach
    from homeport.remote.session import begin

    args = ["--job", name, "-n", str(count), *(["-f"] if follow else []), *(["--json"] if as_json else [])]
    attach(begin(options), ["logs", *args, *([f"--grep={grep}"] if grep else [])], f"deploy cron logs {name}")


# ---------------------------------------------------------------------------------------------- lines


def table(jobs: list[Json]) -> list[str]:
    """The jobs as lines of columns."""
    if not jobs:
        return ["the live release has no jobs: name them in cron in deploy.yml, and push"]
    return columns([("NAME", "SCHEDULE", "LAST", "RESULT", "NEXT"), *map(_row, jobs)])


def _row(job: Json) -> tuple[str, ...]:
    last = job["last"]
    return job["name"], job["schedule"], last["begun"] if last else "never", result(job), _next(job)


def result(job: Json) -> str:
    """How the last run ended, or that one runs."""
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
    """All jobs on one line of `deploy status`."""
    failed = [f"{job['name']} FAILED" for job in jobs if job["failures"]]
    resting = [f"{job['name']} suspended" for job in jobs if job["suspended"]]
    coming = sorted((job["next_run"], job["name"]) for job in jobs if job["next_run"])
    nearest = [f"next {coming[0][1]} at {coming[0][0]}"] if coming else []
    return "; ".join([f"{len(jobs)} job{'s' * (len(jobs) != 1)}", *nearest, *resting, *failed])
