"""deploy apps: every app of the host."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, as_json, common
from hostctl.common.documents import Json
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy apps

  deploy -d production apps --json | jq '.[] | select(.state != "live") | .app'
"""


@click.command(epilog=EPILOG)
@as_json
@common
def command(options: Options, as_json: bool) -> None:
    """List every app of the host, this one's and others, with its state, database, names and room on the disk.

    A destination of its own `app` name is an app of its own; which one it was provisioned as is told.
    """
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    found = dated(begin(options).hostctl.call("apps")["apps"])
    print(json.dumps(found) if as_json else "\n".join(table(found)))


def table(apps: list[Json]) -> list[str]:
    """The apps as lines of columns."""
    head = ("APP", "DESTINATION", "STATE", "RELEASE", "DATABASE", "DISK", "DOMAINS")
    return columns([head, *map(_row, apps)])


def _row(one: Json) -> tuple[str, ...]:
    from homeport.core.humanize import size

    disk = "?" if one["bytes"] is None else size(one["bytes"])
    state = one["state"] + (", locked" if one["lock"] else "")
    return (
        one["app"],
        one["destination"] or "-",
        state,
        (one["live"] or {}).get("release", "-"),
        one["engine"] or "none",
        disk,
        ", ".join(one["domains"]),
    )
