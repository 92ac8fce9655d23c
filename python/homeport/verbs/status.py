"""deploy status: shows what is live and whether it is healthy."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from homeport.core.errors import ExitCode
from homeport.options.options import Options, as_json, common

EPILOG = """Examples:

  deploy status

  deploy status --json | jq .live.release

  deploy status --check --quiet      (for a monitor: silent if all is well, else exit status 1)
"""


@click.command(epilog=EPILOG)
@click.option("--check", is_flag=True, help="Exit with 1 and print the reasons if a person must act.")
@as_json
@common
def command(options: Options, check: bool, as_json: bool) -> None:
    """Show what is live and whether it is healthy. Exit status 0 only if it is healthy.

    With --check the exit status is 0 only if also the backup's lag is within its limit, its drills pass and are recent,
    the disk has free space, and the certificate is valid for at least 14 days.
    """
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    session = begin(options)
    answer = dated(session.hostctl.call("status"))
    found = {
        "app": session.app,
        "destination": session.loaded.destination,
        "host": session.target.host,
        "url": f"https://{session.loaded.config.domains[0].name}/",
        **{key: value for key, value in answer.items() if key != "app"},
    }
    if as_json:
        print(json.dumps(found))
    elif not options.quiet:
        print("\n".join(lines(found)))
    trouble = found["trouble"] if check else []
    report(trouble)
    sys.exit(ExitCode.DONE if found["health"]["ok"] and not trouble else ExitCode.FAILED)


def report(trouble: list[str]) -> None:
    """Print the reasons of a failed check to standard error, which cron sends by mail."""
    for reason in trouble:
        print(f"error: {reason}", file=sys.stderr)


def lines(found: dict[str, Any]) -> list[str]:
    """The status as lines of text."""
    live = found["live"]
    return [
        *_maintenance(found.get("maintenance")),
        f"app          {found['app']} at {found['url']} on {found['host']}",
        f"live         {live['release']} since {live['since']}, port {live['port']}"
        if live
        else "live         nothing yet",
        f"health       {_health(found['health'])}",
        f"certificate  {_certificate(found.get('certificate'))}",
        f"lock         {_lock(found.get('lock'))}",
        f"disk         {_disk(found['disk'])}",
        *_database(found.get("database")),
        *_cron(found.get("cron")),
        *_accessories(found.get("accessories")),
    ]


def _maintenance(maintenance: dict[str, Any] | None) -> list[str]:
    from homeport.verbs.maintenance import line

    return [f"MAINTENANCE  {line(maintenance)}"] if maintenance else []


def _accessories(accessories: list[dict[str, Any]] | None) -> list[str]:
    return [f"accessory    {_accessory(one)}" for one in accessories or []]


def _accessory(one: dict[str, Any]) -> str:
    state = one["state"] if one["state"] == "active" else f"NOT RUNNING ({one['state']})"
    if one["left_over"]:
        return f"{one['name']}: LEFT OVER, {one['state']}; deploy accessory remove {one['name']}"
    return f"{one['name']}: {state}" + (", REACHED FROM OUTSIDE" if one["beyond"] else "")


def _health(health: dict[str, Any]) -> str:
    return ("ok" if health["ok"] else "NOT HEALTHY") + f" ({health['status']})"


def _certificate(certificate: dict[str, Any] | None) -> str:
    return f"valid until {certificate['not_after']}" if certificate else "none yet"


def _lock(lock: dict[str, Any] | None) -> str:
    if not lock:
        return "free"
    return f"{lock['who']} from {lock['from']} since {lock['since']}: {lock.get('message') or lock.get('verb')}"


def _disk(disk: dict[str, Any]) -> str:
    from homeport.core.humanize import size

    return f"{size(disk['free'])} free of {size(disk['total'])}"


def _cron(jobs: list[dict[str, Any]] | None) -> list[str]:
    from homeport.verbs.cron import line

    return [f"cron         {line(jobs)}"] if jobs else []


def _database(database: dict[str, Any] | None) -> list[str]:
    from homeport.core.humanize import size

    if database is None:
        return []
    from homeport.screen import postgres_rows

    if database.get("engine", "sqlite") == "sqlite":
        told = [f"database     {database['path']}, {size(database['bytes'])}"]
    else:
        told = [f"{name:<12} {text}" for name, text in postgres_rows.database(database)]
    return [*told, f"backup       {_backup(database)}"]


def _backup(database: dict[str, Any]) -> str:
    backup = database["backup"]
    if backup is None:
        return none(database)
    if backup["superseded"]:
        return "SUPERSEDED: another host has taken over, nothing streams from here"
    gap = "; THERE IS A GAP" if any(gap["until"] is None for gap in backup.get("gaps", ())) else ""
    return f"{stream(backup)}; {drill(backup)}{gap}"


def none(database: dict[str, Any]) -> str:
    """The reason why Homeport takes no backup of the database."""
    if database.get("engine") == "external":
        return "the provider's: Homeport does not back up an external database"
    return "NONE: no backup is configured; losing the disk loses all data"


def stream(backup: dict[str, Any]) -> str:
    """The lag of the backup, or that it does not stream."""
    if backup["stream"] != "active":
        return f"NOT STREAMING ({backup.get('service', 'Litestream')} is {backup['stream']})"
    return "its lag is not known yet" if backup["lag"] is None else f"{backup['lag']:.1f} s behind"


def drill(backup: dict[str, Any]) -> str:
    """The last verified restore and how long it took."""
    from homeport.core.humanize import size

    last, good = backup["drill"], backup["last_good"]
    passed = (
        f"restored {good['at']} ({size(good['bytes'])} in {good['seconds']:.1f} s)" if good else "never drilled yet"
    )
    return f"THE LAST DRILL FAILED, {passed}" if last and not last["ok"] else passed
