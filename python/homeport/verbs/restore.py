"""deploy restore: restores the data of an earlier time, in place or into a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeport.core.timestamps import parse_time
from homeport.options.options import Options, a_line, common, lock_wait
from hostctl.common.documents import Json
from hostctl.common.names import matches

if TYPE_CHECKING:
    from homeport.remote.session import Session


# a rehearsal takes as long as the data needs; this limit only ends the wait for a host that no longer answers
LONGEST_SECONDS = 6 * 3600.0

EPILOG = """Examples:

  deploy restore --at 2026-11-21T10:03:22 --dry-run     (shows what would be restored, and what would be lost)

  deploy restore --at 2026-11-21T10:03:22Z

  deploy restore --at "2026-11-21 10:03" --to then.db   (into a local file; the app is not touched)

  deploy restore --restore-point 20261121T100322123Z-3f2a9c     (deploy backup list; --point for short)
"""


def _a_time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds since the epoch. A time without a zone is this machine's."""
    if value is None:
        return None
    try:
        return parse_time(value)
    except ValueError:
        expected = "a time such as 2026-11-21T10:03:22Z, or 2026-11-21T10:03:22 in this machine's zone"
        raise click.BadParameter(f"{value!r} is not {expected}") from None


def _a_point(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value and not matches("transition", value):
        raise click.BadParameter(f"{value!r} is not the id of a restore point; deploy backup list shows them")
    return value


_point = click.option(
    "--point",
    "--restore-point",
    "point",
    default="",
    callback=_a_point,
    metavar="ID",
    help="Restore this restore point.",
)


@click.command(epilog=EPILOG)
@click.option(
    "--at", callback=_a_time, metavar="TIME", help="Restore the data of this time; default: the newest on S3."
)
@_point
@click.option("--dry-run", is_flag=True, help="Restore beside the live data, check it, and delete it again.")
@click.option(
    "--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="Restore into FILE on this machine."
)
@click.option("--database", metavar="NAME", callback=a_line, help="With --to: a database of backup.extra.")
@click.option("--force", is_flag=True, help="With --to: overwrite FILE.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@lock_wait
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@common
def command(
    options: Options,
    at: float | None,
    point: str,
    dry_run: bool,
    file: Path | None,
    database: str | None,
    force: bool,
    yes: bool,
    lock_wait: int,
    as_json: bool,
) -> None:
    """Restore the data of an earlier time.

    In place, requests wait at the edge while the data is replaced. The restore is undone unless the app becomes healthy
    with the data; the replaced data becomes kept data on the host. Exit status: 0 done; 1 nothing changed; 2 usage, or
    a time that cannot be restored; 3 undone, the data is as it was; 4 somebody else holds the lock; 5 a person must
    look.
    """
    from homeport.deployment import transition
    from homeport.remote.session import begin

    _check_options(at, point, dry_run, file, database, force)
    session = begin(options)
    words = transition.target_options(at, point)
    if file is not None:
        _to_file(session, [*words, *(["--database", database] if database else [])], file, force, as_json)
    elif dry_run:
        _rehearse(session, words, as_json)
    else:
        transition.restore(session, at, point, lock_wait, yes=yes, as_json=as_json)


def _check_options(
    at: float | None, point: str, dry_run: bool, file: Path | None, database: str | None, force: bool
) -> None:
    if at is not None and point:
        raise click.UsageError("--at and --point exclude each other.")
    if dry_run and file is not None:
        raise click.UsageError("--dry-run and --to exclude each other.")
    if file is None and (force or database):
        raise click.UsageError("--force and --database are for --to FILE.")


def _to_file(session: Session, words: list[str], file: Path, force: bool, as_json: bool) -> None:
    from homeport.core.humanize import size
    from homeport.remote import database_transfer
    from homeport.screen.screen import Screen

    screen = Screen(quiet=session.options.quiet)
    received = database_transfer.fetch(
        session, ["restore", "--file", *words], file, screen, force=force, verb="restore"
    )
    if as_json:
        print(json.dumps({"file": str(file), "bytes": received}))
    else:
        screen.say(f"{file}, {size(received)}, complete")


def _rehearse(session: Session, words: list[str], as_json: bool) -> None:
    from homeport.core.timestamps import with_iso_times
    from homeport.remote import hostctl

    host = hostctl.over_ssh(session.app, session.target, LONGEST_SECONDS)
    rehearsed = host.call("restore", "--dry-run", *words)
    print(json.dumps(with_iso_times(rehearsed)) if as_json else "\n".join(lines(rehearsed)))


def lines(rehearsed: Json) -> list[str]:
    """The result of a rehearsal, as text."""
    from homeport.deployment.transition import loss_lines
    from hostctl.common.timestamps import iso

    text = [f"the data of {iso(rehearsed['at'])} can be restored"]
    for name, one in rehearsed["databases"].items():
        text += _database(name, one)
    return [*text, *loss_lines(rehearsed["gives_up"])]


def _database(name: str, one: Json) -> list[str]:
    from homeport.core.humanize import size

    rows = ", ".join(f"{table} {count:,}" for table, count in one["tables"].items())
    return [f"  {name}: {size(one['bytes'])}, intact, in {one['seconds']:.1f} s", f"    rows: {rows or 'no tables'}"]
