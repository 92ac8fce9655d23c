"""deploy releases: lists the releases on the host."""

from __future__ import annotations

import json
from typing import Any

import click

from homeport.options.options import Options, as_json, common
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy releases

  deploy releases --json | jq -r '.[].release'
"""


@click.command(epilog=EPILOG)
@as_json
@common
def command(options: Options, as_json: bool) -> None:
    """List the releases on the host, newest first, each with its state: staged, live, superseded or failed.

    ENV names the variables that differ from those of the release that was live before.
    """
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    releases = with_iso_times(begin(options).hostctl.call("releases")["releases"])[::-1]
    print(json.dumps(releases) if as_json else "\n".join(table(releases)))


def table(releases: list[dict[str, Any]]) -> list[str]:
    """The releases as lines of columns."""
    if not releases:
        return ["no releases yet; run deploy push"]
    return columns([("RELEASE", "STATE", "GIT", "CREATED", "SIZE", "WHO", "ENV"), *map(_row, releases)])


def _row(release: dict[str, Any]) -> tuple[str, ...]:
    from homeport.core.humanize import size
    from homeport.screen import env_changes

    first = (release["release"], release["state"], _git(release["git"]), release["created"])
    return *first, size(release["size"] or 0), release["who"], env_changes.summary(release.get("env_changes"))


def _git(git: dict[str, Any] | None) -> str:
    return git["sha"][:7] + ("+" if git.get("dirty") else "") if git else "-"
