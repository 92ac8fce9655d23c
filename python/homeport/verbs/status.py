"""deploy status: what is live and whether it is healthy."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from homeport.errors import ExitCode
from homeport.options import Options, common

EPILOG = """Examples:

  deploy status

  deploy status --json | jq .live.release

  deploy status --quiet || echo "not healthy"
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@common
def command(options: Options, as_json: bool) -> None:
    """Say what is live and whether it is healthy. Exit status 0 only if it is."""
    from homeport.session import begin
    from homeport.when import dated

    session = begin(options)
    answer = dated(session.hostctl.call("status"))
    found = {
        "app": session.app,
        "destination": session.loaded.destination,
        "host": session.target.host,
        "url": f"https://{session.loaded.config.domains[0].name}/",
        **{key: value for key, value in answer.items() if key != "app"},
    }
    print(json.dumps(found) if as_json else "\n".join(lines(found)))
    sys.exit(ExitCode.DONE if found["health"]["ok"] else ExitCode.FAILED)


def lines(found: dict[str, Any]) -> list[str]:
    """The status as a person reads it."""
    live = found["live"]
    return [
        f"app          {found['app']} at {found['url']} on {found['host']}",
        f"live         {live['release']} since {live['since']}, port {live['port']}"
        if live
        else "live         nothing yet",
        f"health       {_health(found['health'])}",
        f"certificate  {_certificate(found.get('certificate'))}",
        f"lock         {_lock(found.get('lock'))}",
        f"disk         {_disk(found['disk'])}",
    ]


def _health(health: dict[str, Any]) -> str:
    return ("ok" if health["ok"] else "NOT HEALTHY") + f" ({health['status']})"


def _certificate(certificate: dict[str, Any] | None) -> str:
    return f"valid until {certificate['not_after']}" if certificate else "none yet"


def _lock(lock: dict[str, Any] | None) -> str:
    if not lock:
        return "free"
    return f"{lock['who']} from {lock['from']} since {lock['since']}: {lock.get('message') or lock.get('verb')}"


def _disk(disk: dict[str, Any]) -> str:
    return f"{disk['free'] / 1e9:.1f} GB free of {disk['total'] / 1e9:.1f} GB"
