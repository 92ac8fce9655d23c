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
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    session = begin(options)
    answer = with_iso_times(session.hostctl.call("status"))
    status = {
        "app": session.app,
        "destination": session.loaded.destination,
        "host": session.target.host,
        "url": f"https://{session.loaded.config.domains[0].name}/",
        **{key: value for key, value in answer.items() if key != "app"},
    }
    if as_json:
        print(json.dumps(status))
    elif not options.quiet:
        print("\n".join(lines(status)))
    trouble = status["trouble"] if check else []
    report(trouble)
    sys.exit(ExitCode.DONE if status["health"]["ok"] and not trouble else ExitCode.FAILED)


def report(trouble: list[str]) -> None:
    """Print the reasons of a failed check to standard error, which cron sends by mail."""
    for reason in trouble:
        print(f"error: {reason}", file=sys.stderr)


def lines(status: dict[str, Any]) -> list[str]:
    """The status as lines of text."""
    live = status["live"]
    return [
        *_maintenance(status.get("maintenance")),
        f"app          {status['app']} at {status['url']} on {status['host']}",
        f"live         {live['release']} since {live['since']}, port {live['port']}"
        if live
        else "live         nothing yet",
        f"health       {_health(status['health'])}",
        f"certificate  {_certificate(status.get('certificate'))}",
        f"lock         {_lock(status.get('lock'))}",
        f"disk         {_disk(status['disk'])}",
        *_database(status.get("database")),
        *_cron(status.get("cron")),
        *_accessories(status.get("accessories")),
    ]


def _maintenance(maintenance: dict[str, Any] | None) -> list[str]:
    from homeport.verbs.maintenance import line

    return [f"MAINTENANCE  {line(maintenance)}"] if maintenance else []


def _accessories(accessories: list[dict[str, Any]] | None) -> list[str]:
    return [f"accessory    {_accessory(one)}" for one in accessories or []]


def _accessory(accessory: dict[str, Any]) -> str:
    state = accessory["state"] if accessory["state"] == "active" else f"NOT RUNNING ({accessory['state']})"
    if accessory["left_over"]:
        return f"{accessory['name']}: LEFT OVER, {accessory['state']}; deploy accessory remove {accessory['name']}"
    return f"{accessory['name']}: {state}" + (", REACHED FROM OUTSIDE" if accessory["beyond"] else "")


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
        rows = [f"database     {database['path']}, {size(database['bytes'])}"]
    else:
        rows = [f"{name:<12} {text}" for name, text in postgres_rows.database(database)]
    return [*rows, f"backup       {_backup(database)}"]


def _backup(database: dict[str, Any]) -> str:
    backup = database["backup"]
    if backup is None:
        return no_backup(database)
    if backup["superseded"]:
        return "SUPERSEDED: another host has taken over, nothing streams from here"
    gap = "; THERE IS A GAP" if any(gap["until"] is None for gap in backup.get("gaps", ())) else ""
    return f"{lag_text(backup)}; {drill_text(backup)}{gap}"


def no_backup(database: dict[str, Any]) -> str:
    """The reason why Homeport takes no backup of the database."""
    if database.get("engine") == "external":
        return "the provider's: Homeport does not back up an external database"
    return "NONE: no backup is configured; losing the disk loses all data"


def lag_text(backup: dict[str, Any]) -> str:
    """The lag of the backup, or that it does not stream."""
    if backup["stream"] != "active":
        return f"NOT STREAMING ({backup.get('service', 'Litestream')} is {backup['stream']})"
    return "its lag is not known yet" if backup["lag"] is None else f"{backup['lag']:.1f} s behind"


def drill_text(backup: dict[str, Any]) -> str:
    """The last verified restore and how long it took."""
    from homeport.core.humanize import size

    last, good = backup["drill"], backup["last_good"]
    passed = (
        f"restored {good['at']} ({size(good['bytes'])} in {good['seconds']:.1f} s)" if good else "never drilled yet"
    )
    return f"THE LAST DRILL FAILED, {passed}" if last and not last["ok"] else passed
