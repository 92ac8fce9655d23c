"""deploy logs: what the app, and all that serves it, writes."""

from __future__ import annotations

import re
import time

import click

from homeport.core.timestamps import parsed
from homeport.options.options import Options, a_line, a_release, common

EPILOG = """Examples:

  deploy logs -f

  deploy logs --since 10m --grep timeout

  deploy logs -n 500 --release 20261121T0413

  deploy logs --failed                      (of the release whose push failed last)

  deploy logs backup --since "2026-11-21 04:00" --json
"""

SOURCES = ("app", "edge", "db", "backup", "migrate", "run", "cron")


def a_time(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Seconds since the epoch, from a time (this machine's zone, unless it names one) or from how long ago it was."""
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
        return parsed(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither like 10m, 2h or 3d nor like 2026-11-21T04:00") from None


def a_pattern(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    a_line(ctx, param, value)
    try:
        re.compile(value or "")
    except re.error as error:
        raise click.BadParameter(f"{value!r} is no regular expression: {error}") from None
    return value or None


@click.command(epilog=EPILOG)
@click.argument("source", required=False, type=click.Choice(SOURCES))
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines.")
@click.option("--since", callback=a_time, metavar="TIME", help="None older: 10m, 2h, 3d, or a time.")
@click.option("--grep", callback=a_pattern, metavar="REGEX", help="Those that match; capitals count if it has any.")
@click.option("--release", callback=a_release, help="One release's instance and migrations only.")
@click.option("--failed", is_flag=True, help="Those of the release whose push failed last.")
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
    """Show what was written: by all instances and migrations together, unless a SOURCE or a release is named.

    `app` is the instances alone; `edge` the web server before them; `db` PostgreSQL, or the stream of SQLite; `backup`
    all that keeps and proves the copies; `run` what `deploy run --detach` started; `cron` the jobs of deploy.yml.
    Values of secrets are taken out.
    """
    from homeport.remote.interactive import attach
    from homeport.remote.session import begin

    _refuse_mixtures(source, release, failed)
    session = begin(options)
    # asked first: what hostctl refuses is told as every refusal is
    which = ["--failed"] if failed else ["--release", release] if release else []
    named = session.hostctl.call("record", *which)["record"]["release"] if which else None
    args = ["-n", str(count), *(["-f"] if follow else []), *(["--json"] if as_json else [])]
    args += [f"--since={since:.0f}"] if since is not None else []
    args += [f"--grep={grep}"] if grep else []
    args += ["--release", named] if named else []
    # a child that has this terminal: Ctrl-C and a closed pipe reach it as they would reach a plain `ssh … journalctl`
    attach(session, ["logs", *args, *([source] if source else [])], "deploy logs")


def _refuse_mixtures(source: str | None, release: str | None, failed: bool) -> None:
    if release and failed:
        raise click.UsageError("--release and --failed exclude each other.")
    if (release or failed) and source not in (None, "app", "migrate"):
        raise click.UsageError(f"the lines of {source} belong to no release: leave --release or --failed out.")
