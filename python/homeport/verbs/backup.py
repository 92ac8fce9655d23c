"""deploy backup: whether the backup is good, and what keeps it so."""

from __future__ import annotations

import json
import sys

import click

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, a_transition, as_json, common
from homeport.screen import confirm
from hostctl.common.documents import Json

EPILOG = """Examples:

  deploy backup status

  deploy backup status --check --quiet      (for a monitor or cron: silent, exit status 0 only if all is well)

  deploy backup drill                       (restore it beside the live database, and compare)

  deploy backup list                        (what can be restored)
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Say whether the backup is good, run it, drill it, take it over.

    With --quiet nothing is printed on success. Exit status 4: the same runs already.
    """


@command.command()
@click.option("--check", is_flag=True, help="Fail, with the reasons, for whatever a person should look at.")
@as_json
@common
def status(options: Options, check: bool, as_json: bool) -> None:
    """Say how old the newest write on S3 is, and when the backup was last proven."""
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    session = begin(options)
    answer = session.hostctl.call("backup", "status")
    trouble = answer["trouble"]
    found = dated(answer)
    if as_json:
        print(json.dumps(found))
    elif not options.quiet:
        print("\n".join(lines(found)))
    if check and trouble:
        from homeport.verbs.status import report

        report(trouble)
        sys.exit(ExitCode.FAILED)


@command.command()
@as_json
@common
def run(options: Options, as_json: bool) -> None:
    """Bring everything written until now to S3, and a whole snapshot after it."""
    result = _long(options, "run")
    _told(options, as_json, result, f"everything is on S3, with a snapshot, after {result['seconds']:.1f} s")


@command.command()
@as_json
@common
def drill(options: Options, as_json: bool) -> None:
    """Restore the newest backup beside the live database, compare the two, and remove it again.

    Exit status 0 only when nothing was wrong. It goes on by itself when this is interrupted.
    """
    from homeport.core.humanize import size

    result = _long(options, "drill")
    text = (
        f"{size(result['bytes'])} restored in {result['seconds']:.1f} s, {result['rows']} rows as in the live database"
    )
    _told(options, as_json, result, text)


@command.command("list")
@as_json
@common
def list_command(options: Options, as_json: bool) -> None:
    """List what can be restored: restore points on the host, epochs and times in the bucket."""
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    found = dated(begin(options).hostctl.call("backup", "list"))
    if as_json:
        print(json.dumps(found))
    elif not options.quiet:
        print("\n".join(restorable(found)))


@command.command()
@click.option("--yes", is_flag=True, help="Do not ask: there is no terminal, or the answer is known.")
@as_json
@common
def takeover(options: Options, yes: bool, as_json: bool) -> None:
    """Make this host's database the one that counts. The host that streamed before stops, and says so."""
    from homeport.core.performer import here, who
    from homeport.remote.session import begin

    session = begin(options)
    confirm.sure(
        f"The database on {session.target.host} becomes the one that counts; another host's writes do not.", yes
    )
    found = session.hostctl.call("backup", "takeover", "--who", who(), "--from", here())
    _told(options, as_json, found, f"epoch {found['epoch']} counts now, and this host streams to it")


@command.command()
@click.argument("id_", metavar="ID", callback=a_transition)
@click.option("--yes", is_flag=True, help="Do not ask: there is no terminal, or the answer is known.")
@as_json
@common
def forget(options: Options, id_: str, yes: bool, as_json: bool) -> None:
    """Delete data that was moved aside, for good: by a restore, for instance. `deploy backup list` tells the ids."""
    from homeport.core.humanize import size
    from homeport.core.performer import here, who
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    host = begin(options).hostctl
    found = dated(host.call("backup", "forget", "--id", id_, "--plan"))
    what = f"{size(found['bytes'])} that lie aside since {found['since']}"
    confirm.sure(f"{what} ({found['why'] or 'nobody knows why'}) are deleted for good.", yes)
    host.call("backup", "forget", "--id", id_, "--who", who(), "--from", here())
    _told(options, as_json, found, f"{what} are deleted")


@command.command()
@as_json
@common
def check(options: Options, as_json: bool) -> None:
    """Ask the bucket, from the host: reachable, writable, as strict as required, and of the same time."""
    from homeport.remote.session import begin

    found = begin(options).hostctl.call("backup", "check")
    _told(
        options, as_json, found, f"{found['where']} is there and can be written to, clocks {found['skew']:+.1f} s apart"
    )


@command.command("create-bucket")
@common
def create_bucket(options: Options) -> None:
    """Make the bucket that deploy.yml names, as strict as backup.require asks, and check it from here."""
    from homeport.bucket import check
    from homeport.remote.session import begin

    session = begin(options)
    check.create(session.loaded)
    check.check(session.loaded)
    if not options.quiet:
        click.echo("the bucket is there", err=True)


def _long(options: Options, what: str) -> Json:
    """Begin a drill or a run, show what it does, and return what came of it. Raises HomeportError when it failed."""
    from homeport.core.performer import here, who
    from homeport.remote.long_jobs import follow
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen = Screen(quiet=options.quiet)
    host = session.hostctl
    started = host.call("backup", what, "--who", who(), "--from", here())["started"]
    screen.begin(what)
    result = follow(host, what, started, screen.note)
    screen.end(what, ok=result["ok"])
    if not result["ok"]:
        text = f"the {what} of {session.app}'s backup failed: {'; '.join(result['found'])}"
        raise HomeportError(text, host.where, _mend(result), ExitCode.FAILED)
    return result


def _mend(result: Json) -> str:
    """The way out of a drill or run that failed."""
    again = "deploy backup run (a whole snapshot), then deploy backup drill. " if result.get("damaged") else ""
    return again + (result.get("offer") or "deploy backup status")


def _told(options: Options, as_json: bool, found: Json, text: str) -> None:
    from homeport.core.timestamps import dated

    if as_json:
        print(json.dumps(dated(found)))
    elif not options.quiet:
        click.echo(text)


# ---------------------------------------------------------------------------------------------- as a person reads it


def lines(found: Json) -> list[str]:
    """The status of the backup."""
    from homeport.screen import postgres_rows
    from homeport.verbs.status import drill as drilled
    from homeport.verbs.status import none, stream

    backup = found["database"]["backup"]
    if backup is None:
        return [none(found["database"])]
    postgres = found["database"].get("engine") == "postgres"
    rows = [
        ("SUPERSEDED", _superseded(backup["superseded"])),
        ("bucket", f"s3://{backup['bucket']}/{backup['prefix']}"),
        ("epoch", f"{backup['epoch']} since {backup['opened']}" if backup["epoch"] else "none yet"),
        ("stream", f"{stream(backup)}; {backup['max_lag']:g} s is the most"),
        ("drill", drilled(backup)),
        ("next drill", backup["next_drill"] or "not scheduled"),
        ("owed", _owed(backup["owed"], "a full backup" if postgres else "a snapshot")),
        ("left open", backup.get("left_open") or ""),
        *(postgres_rows.archive(backup) if postgres else ()),
        *(("trouble", reason) for reason in found["trouble"]),
    ]
    return [f"{name:<12} {text}" for name, text in rows if text]


def _owed(told: Json | None, what: str) -> str:
    return f"{what} since {told['since']}: {told['why']}" if told else ""


def _superseded(told: Json | None) -> str:
    return f"{told.get('why') or 'another host has taken over'}; deploy backup takeover takes it back" if told else ""


def restorable(found: Json) -> list[str]:
    """What can be restored, and what was moved aside."""
    from homeport.core.humanize import size
    from homeport.screen import postgres_rows

    rows = [f"point  {point['id']}  {point['at']}  of before {point.get('for') or '-'}" for point in found["points"]]
    for epoch in found["epochs"]:
        rows.append(f"epoch  {epoch['epoch']}  opened {epoch['opened']} by {epoch['host']}")
        for name, times in epoch["databases"].items():
            rows.append(f"       {name}  {_range(times)}")
        rows += [f"       {one['kind']:<5}  {postgres_rows.base(one)}" for one in epoch.get("bases", ())]
        rows += [f"       gap    {postgres_rows.missing(gap)}" for gap in epoch.get("gaps", ())]
    for one in found.get("aside", ()):
        rows.append(f"aside  {one['id']}  {one['since']}  {size(one['bytes'])}  {one['why'] or '-'}")
    good = found["last_good"]
    return [
        *rows,
        f"proven up to {good['up_to']} by the drill of {good['at']}" if good else "no drill has proven any of it",
    ]


def _range(times: Json | None) -> str:
    return f"from {times['from']} to {times['to']}" if times else "nothing"
