"""deploy accessory: other services that the app needs on its host."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, an_accessory, as_json, common, listing
from homeport.verbs.logs import a_pattern, a_time
from hostctl.common.documents import Json
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy accessory                     (of deploy.yml, and what is left over)

  deploy accessory logs redis -f

  deploy accessory restart redis

  deploy accessory remove redis        (its data is moved aside)
"""


_name = click.argument("name", callback=an_accessory)


@listing(EPILOG, "List them: what runs, where it listens, and how the app finds it.")
def command(options: Options, as_json: bool) -> None:
    """List the services beside the app, read what they write, restart one, or take one away.

    They come with `deploy provision` from `accessories` in deploy.yml.
    """
    from homeport.remote.session import begin

    session = begin(options)
    found = session.hostctl.call("accessory", "list")["accessories"]
    given = {name: list(one.env) for name, one in session.loaded.config.accessories.items()}
    found = [{**one, "variables": one["variables"] or given.get(one["name"], [])} for one in found]
    if as_json:
        print(json.dumps(found))
    else:
        print("\n".join(table(found)) if found else "none; accessories in deploy.yml names them")


@command.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines.")
@click.option("--since", callback=a_time, metavar="TIME", help="None older: 10m, 2h, 3d, or a time.")
@click.option("--grep", callback=a_pattern, metavar="REGEX", help="Those that match; capitals count if it has any.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@common
def logs(
    options: Options, name: str, follow: bool, count: int, since: float | None, grep: str | None, as_json: bool
) -> None:
    """Show what an accessory writes."""
    from homeport.remote.interactive import attach
    from homeport.remote.session import begin

    session = begin(options)
    _known(session.hostctl.call("accessory", "list")["accessories"], name, session.hostctl.where)
    args = ["-n", str(count), *(["-f"] if follow else []), *(["--json"] if as_json else [])]
    args += [f"--since={since:.0f}"] if since is not None else []
    args += [f"--grep={grep}"] if grep else []
    attach(session, ["accessory", "logs", name, *args], "deploy accessory logs")


@command.command()
@_name
@as_json
@common
def restart(options: Options, name: str, as_json: bool) -> None:
    """Restart an accessory, and wait until it listens. What it has not kept on the disk is lost."""
    found = _act(options, "restart", name)
    print(json.dumps(found) if as_json else "\n".join(table([found])))


@command.command()
@_name
@as_json
@common
def remove(options: Options, name: str, as_json: bool) -> None:
    """Take away one that deploy.yml names no more. Its data is moved aside on the host: the answer says where.

    Refused while the live release still finds it in its environment.
    """
    found = _act(options, "remove", name)
    if as_json:
        print(json.dumps(found))
    else:
        where = f"; what it kept is in {found['aside']} on the host" if found["aside"] else ""
        package = "; its package stays installed" if found["kind"] == "package" else ""
        print(f"removed {name}{where}{package}")


def _act(options: Options, action: str, name: str) -> Json:
    from homeport.core.performer import here, who
    from homeport.remote.session import begin

    return begin(options).hostctl.call("accessory", action, name, "--who", who(), "--from", here())


def _known(found: list[Json], name: str, where: str) -> None:
    """Refuse a name before a terminal is attached to it."""
    from homeport.core.errors import ExitCode, HomeportError

    if name not in [one["name"] for one in found]:
        raise HomeportError(f"there is no accessory {name}", where, "deploy accessory list", ExitCode.USAGE)


def table(found: list[Json]) -> list[str]:
    """The accessories as lines of columns."""
    head = ("NAME", "KIND", "STATE", "LISTENS ON", "VARIABLES", "MEMORY", "DISK")
    return columns([head, *map(_row, found)])


def _row(one: Json) -> tuple[str, ...]:
    from homeport.core.humanize import size

    state = f"{one['state']}, LEFT OVER" if one["left_over"] else one["state"]
    warning = ", BEYOND THE HOST" if one["beyond"] else ""
    memory = size(one["memory"]) if one["memory"] is not None else "-"
    listens = ", ".join(one["listens"]) or "-"
    return (
        one["name"],
        one["kind"],
        state,
        listens + warning,
        ", ".join(one["variables"]) or "-",
        memory,
        size(one["bytes"]),
    )
