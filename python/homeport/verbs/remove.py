"""deploy remove: one app leaves the host, the others stay as they are."""

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

  deploy remove --plan                  (tells what would go, and nothing is done)

  deploy remove                         (after a final backup; asks for the app's name)

  deploy remove --keep-data             (the database stays: a later deploy setup takes it up again)

  deploy -d staging remove --yes        (where there is no terminal)
"""


@click.command(epilog=EPILOG)
@click.option("--keep-data", is_flag=True, help="Leave the database, and what a later setup takes it up again by.")
@click.option("--plan", "only_plan", is_flag=True, help="Tell what would go, and do nothing.")
@click.option("--force", is_flag=True, help="Also without a final backup: the data is moved aside on the host then.")
@click.option("--yes", is_flag=True, help="Do not ask: there is no terminal, or the answer is known.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(
    options: Options, keep_data: bool, only_plan: bool, force: bool, yes: bool, lock_wait: int, as_json: bool
) -> None:
    """Take this app off its host, whole, and leave every other app there untouched.

    A final backup comes first; if it fails, nothing is removed and the app serves again. Data that no backup holds is
    moved aside on the host, never deleted. The backup on S3 stays: deploy setup restores it. As the user who
    provisions. Interrupted, the same command goes on. Exit status: 0 removed; 1 nothing changed; 2 usage; 3 taken back,
    the app serves again; 4 somebody else holds the lock; 5 a person must look.
    """
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    host, screen = privileged(session), Screen(quiet=options.quiet)
    planned = host.call("remove", "plan")
    if only_plan or planned["gone"]:
        print(json.dumps(dated(planned)) if as_json else "\n".join(plan_lines(planned, keep_data)))
        return
    for line in plan_lines(planned, keep_data):
        screen.say(line)
    _agreed(session.app, yes)
    words = [*(["--keep-data"] if keep_data else []), *(["--force"] if force else []), "--lock-wait", str(lock_wait)]
    result = _removed(host, words, screen)
    if as_json:
        print(json.dumps(dated(result)))
    else:
        for line in lines(session.app, session.target.host, result):
            screen.say(line)


def privileged(session: Session) -> Hostctl:
    """hostctl as the user who provisions: what provisioning has made, nobody else takes away.

    SUDO_USER, by which hostctl knows who only pushes, is unset as provisioning unsets it.
    """
    from homeport.remote.hostctl import Hostctl
    from homeport.ssh import connection

    target = session.provision_target
    prefix = [] if target.user == "root" else ["sudo", "-n", "/usr/bin/env", "--unset=SUDO_USER"]

    def run(command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        return connection.run(target, [*prefix, *command], stdin=stdin, timeout=120)

    return Hostctl(session.app, str(target), run, sudo=False)


def _agreed(app: str, yes: bool) -> None:
    """Have a person type the app's name. Raises HomeportError (usage) where nobody can be asked, or it is another."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise HomeportError("There is no terminal to ask for the app's name at", "", "add --yes", ExitCode.USAGE)
    if click.prompt(f"Type {app} to remove it", err=True, default="", show_default=False) != app:
        raise HomeportError(f"that is not {app}: nothing was removed", "", "deploy remove", ExitCode.USAGE)


def _removed(host: Hostctl, words: list[str], screen: Any) -> Json:
    from homeport.core.performer import here, who
    from homeport.remote.long_jobs import follow

    started = host.call("remove", "begin", *words, "--who", who(), "--from", here())["started"]
    screen.begin("remove")
    result = follow(host, "remove", started, screen.note, of="remove")
    screen.end("remove", ok=result["ok"])
    if error := result["error"]:
        raise HomeportError(error["what"], error["where"] or host.where, error["fix"], error["code"])
    return result


# ---------------------------------------------------------------------------------------------- as a person reads it


def plan_lines(planned: Json, keep_data: bool) -> list[str]:
    """What goes, before anybody agrees to it."""
    from hostctl.common.timestamps import iso

    if gone := planned["gone"]:
        said = f"{planned['app']} is not on this host: {gone['who'] or 'somebody'} removed it at {iso(gone['ended'])}"
        return [said, *_left(gone)]
    names = ", ".join(planned["domains"]) or "no name"
    count = planned["releases"]
    return [
        f"removes   {planned['app']} at {names}: {count} release{'' if count == 1 else 's'}, {_size(planned['bytes'])}",
        *(f"database  {_database(one)}, {'stays' if keep_data else 'goes'}" for one in planned["databases"]),
        f"backup    {_backup(planned)}",
        *([f"users     {', '.join(planned['users'])}"] if planned["users"] else []),
        *_unfinished(planned["unfinished"]),
    ]


def _size(count: int | None) -> str:
    from homeport.core.humanize import size

    return "of unknown size" if count is None else size(count)


def _database(one: Json) -> str:
    return f"{one['path']} ({_size(one['bytes'])})"


def _backup(planned: Json) -> str:
    if planned["backup"]:
        return f"one last time, then s3://{planned['backup']['bucket']}/{planned['backup']['prefix']} stays as it is"
    if planned["engine"] == "external":
        return "the provider's: the external database is not touched"
    return "NONE: what the app wrote is moved aside on the host"


def _unfinished(entry: Json | None) -> list[str]:
    from hostctl.common.timestamps import iso

    if entry is None:
        return []
    return [f"goes on   with what {entry['who'] or 'somebody'} began at {iso(entry['at'])}"]


def lines(app: str, host: str, result: Json) -> list[str]:
    """What came of it, and what is left."""
    from hostctl.common.timestamps import iso

    backup = result["backup"]
    sent = (
        [f"backup    all of it until {iso(backup['at'])} is in s3://{backup['bucket']}/{backup['prefix']}"]
        if backup
        else []
    )
    return [f"{app} is gone from {host}", *(f"warning   {text}" for text in result["warnings"]), *sent, *_left(result)]


def _left(result: Json) -> list[str]:
    kept = [f"left      {one['path']}, {_size(one['bytes'])}" for one in result["left"]]
    moved = [one["path"] for one in result["left"] if one["path"].startswith(result["note"])]
    more = ["          that is for you to delete, as root there: rm -r " + " ".join(moved)] if moved else []
    return [*kept, *more, f"note      {result['note']}: who removed it, when, and its audit"]
