"""deploy logs: the logs of the app and of the services around it."""

from __future__ import annotations

import re
import time

import click

from homeport.core.timestamps import parse_time
from homeport.options.options import Options, a_line, a_release, common

EPILOG = """Examples:

  deploy logs -f

  deploy logs --since 10m --grep timeout

  deploy logs -n 500 --release 20261121T0413

  deploy logs --failed                      (of the release whose push failed most recently)

  deploy logs backup --since "2026-11-21 04:00" --json
"""

SOURCES = ("app", "edge", "db", "backup", "migrate", "run", "cron")


def a_time(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Seconds since the epoch, from a time (in this machine's zone, unless it names one) or from an age such as 10m."""
    from homeport.config.values import duration

    if value is None:
        return None
    if ago := re.fullmatch(r"(\d+)d", value):
        value = f"{int(ago[1]) * 24}h"
    try:
        return time.time() - duration(most=1e9)(value)
    except ValueError:
        pass
    try:
        return parse_time(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither like 10m, 2h or 3d nor like 2026-11-21T04:00") from None


def a_pattern(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    a_line(ctx, param, value)
    try:
        re.compile(value or "")
    except re.error as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}") from None
    return value or None


@click.command(epilog=EPILOG)
@click.argument("source", required=False, type=click.Choice(SOURCES))
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines.")
@click.option("--since", callback=a_time, metavar="TIME", help="Only newer lines: 10m, 2h, 3d, or a time.")
@click.option(
    "--grep", callback=a_pattern, metavar="REGEX", help="Only lines that match; case matters if REGEX has capitals."
)
@click.option("--release", callback=a_release, help="Only lines of this release's instance and migrations.")
@click.option("--failed", is_flag=True, help="Only lines of the release whose push failed most recently.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@common
def command(
    options: Options,
    source: str | None,
    follow: bool,
    count: int,
    since: float | None,
    grep: str | None,
    release: str | None,
    failed: bool,
    as_json: bool,
) -> None:
    """Show the logs of all instances and migrations, or of one SOURCE or one release.

    SOURCE is `app`, the instances without the migrations; `edge`, the web server; `db`, PostgreSQL or SQLite's stream;
    `backup`, the backup and its drills; `migrate`, the migrations; `run`, what `deploy run --detach` started; or
    `cron`, the jobs of deploy.yml. Values of secrets are removed from the lines.
    """
    from homeport.remote.interactive import attach
    from homeport.remote.session import begin

    _check_options(source, release, failed)
    session = begin(options)
    # resolved before the log is attached, so that a refusal of hostctl is reported as an error in three parts
    which = ["--failed"] if failed else ["--release", release] if release else []
    resolved = session.hostctl.call("record", *which)["record"]["release"] if which else None
    args = ["-n", str(count), *(["-f"] if follow else []), *(["--json"] if as_json else [])]
    args += [f"--since={since:.0f}"] if since is not None else []
    args += [f"--grep={grep}"] if grep else []
    args += ["--release", resolved] if resolved else []
    # the child shares this terminal: Ctrl-C and a closed pipe reach it as they would reach a plain `ssh … journalctl`
    attach(session, ["logs", *args, *([source] if source else [])], "deploy logs")


def _check_options(source: str | None, release: str | None, failed: bool) -> None:
    if release and failed:
        raise click.UsageError("--release and --failed exclude each other.")
    if (release or failed) and source not in (None, "app", "migrate"):
        raise click.UsageError(f"lines of {source} do not belong to a release: omit --release or --failed.")
