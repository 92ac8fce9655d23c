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
    """List all apps on the host: state, live release, database, disk space and domains.

    A destination with an `app` name of its own is a separate app; DESTINATION shows as which it was provisioned.
    """
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    apps = with_iso_times(begin(options).hostctl.call("apps")["apps"])
    print(json.dumps(apps) if as_json else "\n".join(table(apps)))


def table(apps: list[Json]) -> list[str]:
    """The apps as lines of columns."""
    head = ("APP", "DESTINATION", "STATE", "RELEASE", "DATABASE", "DISK", "DOMAINS")
    return columns([head, *map(_row, apps)])


def _row(app: Json) -> tuple[str, ...]:
    from homeport.core.humanize import size

    disk = "?" if app["bytes"] is None else size(app["bytes"])
    state = app["state"] + (", locked" if app["lock"] else "")
    return (
        app["app"],
        app["destination"] or "-",
        state,
        (app["live"] or {}).get("release", "-"),
        app["engine"] or "none",
        disk,
        ", ".join(app["domains"]),
    )
