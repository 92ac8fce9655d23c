"""deploy remove: removes one app from the host; other apps stay untouched."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, common, lock_wait
from hostctl.common.documents import Json

if TYPE_CHECKING:
    from homeport.remote.hostctl import Hostctl
    from homeport.remote.session import Session


EPILOG = """Examples:

  deploy remove --plan                  (shows what would be removed, and changes nothing)

  deploy remove                         (takes a final backup first; asks for the app's name)

  deploy remove --keep-data             (keeps the database, which a later deploy setup uses again)

  deploy -d staging remove --yes        (where there is no terminal)
"""


@click.command(epilog=EPILOG)
@click.option("--keep-data", is_flag=True, help="Keep the database for a later deploy setup.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be removed, and change nothing.")
@click.option("--force", is_flag=True, help="Remove also if the final backup fails; the data is then kept on the host.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(
    options: Options, keep_data: bool, only_plan: bool, force: bool, yes: bool, lock_wait: int, as_json: bool
) -> None:
    """Remove this app and everything of it from its host. Other apps there stay untouched.

    A final backup is taken first; if it fails, nothing is removed and the app serves again. Data that is in no backup
    is kept on the host, never deleted. The backup on S3 stays, and deploy setup restores it. Runs as the user who
    provisions. After an interruption, run the same command again. Exit status: 0 removed; 1 nothing changed; 2 usage;
    3 undone, the app serves again; 4 somebody else holds the lock; 5 a person must look.
    """
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    host, screen = privileged_hostctl(session), Screen(quiet=options.quiet)
    planned = host.call("remove", "plan")
    if only_plan or planned["gone"]:
        print(json.dumps(with_iso_times(planned)) if as_json else "\n".join(plan_lines(planned, keep_data)))
        return
    for line in plan_lines(planned, keep_data):
        screen.say(line)
    _confirm(session.app, yes)
    words = [*(["--keep-data"] if keep_data else []), *(["--force"] if force else []), "--lock-wait", str(lock_wait)]
    result = _remove(host, words, screen)
    if as_json:
        print(json.dumps(with_iso_times(result)))
    else:
        for line in lines(session.app, session.target.host, result):
            screen.say(line)


def privileged_hostctl(session: Session) -> Hostctl:
    """hostctl as the user who provisions, the only one who may remove an app.

    SUDO_USER is unset, as provisioning does: by this variable hostctl recognises a user who may only push.
    """
    from homeport.remote.hostctl import Hostctl
    from homeport.ssh import connection

    target = session.provision_target
    prefix = [] if target.user == "root" else ["sudo", "-n", "/usr/bin/env", "--unset=SUDO_USER"]

    def run(command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        return connection.run(target, [*prefix, *command], stdin=stdin, timeout=120)

    return Hostctl(session.app, str(target), run, sudo=False)


def _confirm(app: str, yes: bool) -> None:
    """Ask a person to type the app's name. Raises HomeportError (usage) without a terminal, and for another name."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise HomeportError("there is no terminal to ask for the app's name", "", "add --yes", ExitCode.USAGE)
    if click.prompt(f"Type {app} to remove it", err=True, default="", show_default=False) != app:
        raise HomeportError(f"that is not {app}: nothing was removed", "", "deploy remove", ExitCode.USAGE)


def _remove(host: Hostctl, words: list[str], screen: Any) -> Json:
    from homeport.core.performer import performer_options
    from homeport.remote.long_jobs import follow

    started = host.call("remove", "begin", *words, *performer_options())["started"]
    screen.begin("remove")
    result = follow(host, "remove", started, screen.note, verb="remove")
    screen.end("remove", ok=result["ok"])
    if error := result["error"]:
        raise HomeportError(error["what"], error["where"] or host.where, error["fix"], error["code"])
    return result


# ---------------------------------------------------------------------------------------------- output as text


def plan_lines(planned: Json, keep_data: bool) -> list[str]:
    """What would be removed, as text."""
    from hostctl.common.timestamps import iso

    if gone := planned["gone"]:
        text = f"{planned['app']} is not on this host: {gone['who'] or 'somebody'} removed it at {iso(gone['ended'])}"
        return [text, *_left_lines(gone)]
    names = ", ".join(planned["domains"]) or "no name"
    count = planned["releases"]
    return [
        f"removes   {planned['app']} at {names}: {count} release{'' if count == 1 else 's'}, {_size(planned['bytes'])}",
        *(f"database  {_database(one)}, {'kept' if keep_data else 'removed'}" for one in planned["databases"]),
        f"backup    {_backup(planned)}",
        *([f"users     {', '.join(planned['users'])}"] if planned["users"] else []),
        *_unfinished_lines(planned["unfinished"]),
    ]


def _size(count: int | None) -> str:
    from homeport.core.humanize import size

    return "of unknown size" if count is None else size(count)


def _database(one: Json) -> str:
    return f"{one['path']} ({_size(one['bytes'])})"


def _backup(planned: Json) -> str:
    if planned["backup"]:
        return f"a final one, then s3://{planned['backup']['bucket']}/{planned['backup']['prefix']} stays as it is"
    if planned["engine"] == "external":
        return "the provider's: the external database is not touched"
    return "NONE: the app's data is kept on the host"


def _unfinished_lines(entry: Json | None) -> list[str]:
    from hostctl.common.timestamps import iso

    if entry is None:
        return []
    return [f"continues the removal that {entry['who'] or 'somebody'} began at {iso(entry['at'])}"]


def lines(app: str, host: str, result: Json) -> list[str]:
    """The result of the removal, and what is left on the host."""
    from hostctl.common.timestamps import iso

    backup = result["backup"]
    sent = (
        [f"backup    s3://{backup['bucket']}/{backup['prefix']} has every write until {iso(backup['at'])}"]
        if backup
        else []
    )
    return [
        f"{app} is removed from {host}",
        *(f"warning   {text}" for text in result["warnings"]),
        *sent,
        *_left_lines(result),
    ]


def _left_lines(result: Json) -> list[str]:
    kept = [f"left      {one['path']}, {_size(one['bytes'])}" for one in result["left"]]
    moved = [one["path"] for one in result["left"] if one["path"].startswith(result["note"])]
    more = ["          to delete it, as root on the host: rm -r " + " ".join(moved)] if moved else []
    return [*kept, *more, f"note      {result['note']}: who removed it, when, and its audit"]
