"""deploy backup: the state of the backup, and the verbs that run, drill and manage it."""

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

  deploy backup status --check --quiet      (for a monitor or cron: silent if all is well, else exit status 1)

  deploy backup drill                       (restore beside the live database, and compare the two)

  deploy backup list                        (what can be restored)
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Check, run, drill or take over the backup.

    With --quiet nothing is printed on success. Exit status 4: the same job is running already.
    """


@command.command()
@click.option("--check", is_flag=True, help="Exit with 1 and print the reasons if a person must act.")
@as_json
@common
def status(options: Options, check: bool, as_json: bool) -> None:
    """Show the lag of the backup and the last drill that proved it."""
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    session = begin(options)
    answer = session.hostctl.call("backup", "status")
    trouble = answer["trouble"]
    state = with_iso_times(answer)
    if as_json:
        print(json.dumps(state))
    elif not options.quiet:
        print("\n".join(lines(state)))
    if check and trouble:
        from homeport.verbs.status import report

        report(trouble)
        sys.exit(ExitCode.FAILED)


@command.command()
@as_json
@common
def run(options: Options, as_json: bool) -> None:
    """Send every write made until now to S3, then take a full snapshot."""
    result = _run_job(options, "run")
    _print(options, as_json, result, f"all writes and a snapshot are on S3 after {result['seconds']:.1f} s")


@command.command()
@as_json
@common
def drill(options: Options, as_json: bool) -> None:
    """Restore the newest backup beside the live database, compare the two, and delete the restored copy.

    Exit status 0 only if the drill found no fault. The drill continues on the host if this command is interrupted.
    """
    from homeport.core.humanize import size

    result = _run_job(options, "drill")
    text = (
        f"{size(result['bytes'])} restored in {result['seconds']:.1f} s, {result['rows']} rows as in the live database"
    )
    _print(options, as_json, result, text)


@command.command("list")
@as_json
@common
def list_command(options: Options, as_json: bool) -> None:
    """List what can be restored: the restore points, and the epochs in the bucket with their times."""
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    listed = with_iso_times(begin(options).hostctl.call("backup", "list"))
    if as_json:
        print(json.dumps(listed))
    elif not options.quiet:
        print("\n".join(restorable(listed)))


@command.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
@common
def takeover(options: Options, yes: bool, as_json: bool) -> None:
    """Make the database of this host the one that is backed up, in a new epoch.

    The host that streamed before stops, and its status says so.
    """
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin

    session = begin(options)
    confirm.confirm(
        f"The backup continues from the database on {session.target.host}; later writes of another host are not in it.",
        yes,
    )
    taken = session.hostctl.call("backup", "takeover", *performer_options())
    _print(options, as_json, taken, f"epoch {taken['epoch']} is current, and this host streams to it")


@command.command()
@click.argument("id_", metavar="ID", callback=a_transition)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
@common
def forget(options: Options, id_: str, yes: bool, as_json: bool) -> None:
    """Delete kept data for good, such as the data that a restore replaced. `deploy backup list` shows the ids."""
    from homeport.core.humanize import size
    from homeport.core.performer import performer_options
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    host = begin(options).hostctl
    kept = with_iso_times(host.call("backup", "forget", "--id", id_, "--plan"))
    what = f"{size(kept['bytes'])} of data, kept since {kept['since']}"
    confirm.confirm(f"{what} ({kept['why'] or 'reason unknown'}), will be deleted for good.", yes)
    host.call("backup", "forget", "--id", id_, *performer_options())
    _print(options, as_json, kept, f"deleted {what}")


@command.command()
@as_json
@common
def check(options: Options, as_json: bool) -> None:
    """Check the bucket from the host: access, write permission, backup.require, and the clock."""
    from homeport.remote.session import begin

    checked = begin(options).hostctl.call("backup", "check")
    text = f"{checked['where']} exists and is writable, clocks {checked['skew']:+.1f} s apart"
    _print(options, as_json, checked, text)


@command.command("create-bucket")
@common
def create_bucket(options: Options) -> None:
    """Create the bucket that deploy.yml names, with what backup.require asks for, and check it from this machine."""
    from homeport.bucket import check
    from homeport.remote.session import begin

    session = begin(options)
    check.create(session.loaded)
    check.check(session.loaded)
    if not options.quiet:
        click.echo("the bucket exists and can be used", err=True)


def _run_job(options: Options, job: str) -> Json:
    """Start a drill or a run, show its progress, and return its result. Raises HomeportError if it failed."""
    from homeport.core.performer import performer_options
    from homeport.remote.long_jobs import follow
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen = Screen(quiet=options.quiet)
    host = session.hostctl
    started = host.call("backup", job, *performer_options())["started"]
    screen.begin(job)
    result = follow(host, job, started, screen.note)
    screen.end(job, ok=result["ok"])
    if not result["ok"]:
        what = f"the {job} of {session.app}'s backup failed: {'; '.join(result['found'])}"
        raise HomeportError(what, host.where, _fix(result), ExitCode.FAILED)
    return result


def _fix(result: Json) -> str:
    """The fix for a drill or run that failed."""
    snapshot = "deploy backup run (a full snapshot), then deploy backup drill. " if result.get("damaged") else ""
    return snapshot + (result.get("offer") or "deploy backup status")


def _print(options: Options, as_json: bool, answer: Json, text: str) -> None:
    from homeport.core.timestamps import with_iso_times

    if as_json:
        print(json.dumps(with_iso_times(answer)))
    elif not options.quiet:
        click.echo(text)


# ---------------------------------------------------------------------------------------------- output as text


def lines(state: Json) -> list[str]:
    """The status of the backup, as rows of a name and a text."""
    from homeport.screen import postgres_rows
    from homeport.verbs.status import drill_text, lag_text, no_backup

    backup = state["database"]["backup"]
    if backup is None:
        return [no_backup(state["database"])]
    postgres = state["database"].get("engine") == "postgres"
    rows = [
        ("SUPERSEDED", _superseded_text(backup["superseded"])),
        ("bucket", f"s3://{backup['bucket']}/{backup['prefix']}"),
        ("epoch", f"{backup['epoch']} since {backup['opened']}" if backup["epoch"] else "none yet"),
        ("stream", f"{lag_text(backup)}; the limit is {backup['max_lag']:g} s"),
        ("drill", drill_text(backup)),
        ("next drill", backup["next_drill"] or "not scheduled"),
        ("required", _required_text(backup["owed"], "a full backup" if postgres else "a snapshot")),
        ("left open", backup.get("left_open") or ""),
        *(postgres_rows.archive(backup) if postgres else ()),
        *(("trouble", reason) for reason in state["trouble"]),
    ]
    return [f"{name:<12} {text}" for name, text in rows if text]


def _required_text(required: Json | None, what: str) -> str:
    return f"{what} since {required['since']}: {required['why']}" if required else ""


def _superseded_text(superseded: Json | None) -> str:
    if not superseded:
        return ""
    return f"{superseded.get('why') or 'another host has taken over'}; to take it back: deploy backup takeover"


def restorable(listed: Json) -> list[str]:
    """What can be restored, and the kept data."""
    from homeport.core.humanize import size
    from homeport.screen import postgres_rows

    rows = [f"point  {point['id']}  {point['at']}  before {point.get('for') or '-'}" for point in listed["points"]]
    for epoch in listed["epochs"]:
        rows.append(f"epoch  {epoch['epoch']}  opened {epoch['opened']} by {epoch['host']}")
        for name, times in epoch["databases"].items():
            rows.append(f"       {name}  {_range(times)}")
        rows += [f"       {one['kind']:<5}  {postgres_rows.base(one)}" for one in epoch.get("bases", ())]
        rows += [f"       gap    {postgres_rows.gap_text(gap)}" for gap in epoch.get("gaps", ())]
    for kept in listed.get("aside", ()):
        rows.append(f"kept   {kept['id']}  {kept['since']}  {size(kept['bytes'])}  {kept['why'] or '-'}")
    good = listed["last_good"]
    return [
        *rows,
        f"proven up to {good['up_to']} by the drill of {good['at']}" if good else "no drill has proven the backup yet",
    ]


def _range(times: Json | None) -> str:
    return f"from {times['from']} to {times['to']}" if times else "nothing"
