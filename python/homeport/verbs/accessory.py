"""deploy accessory: the services beside the app on its host."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, an_accessory, as_json, common, listing
from homeport.verbs.logs import a_pattern, a_time
from hostctl.common.documents import Json
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy accessory                     (those of deploy.yml, and those left over)

  deploy accessory logs redis -f

  deploy accessory restart redis

  deploy accessory remove redis        (its data stays on the host as kept data)
"""


_name = click.argument("name", callback=an_accessory)


@listing(EPILOG, "List the accessories: the state, the addresses and the variables of each.")
def command(options: Options, as_json: bool) -> None:
    """List the services beside the app, show their logs, restart or remove one.

    `deploy provision` creates them from `accessories` in deploy.yml.
    """
    from homeport.remote.session import begin

    session = begin(options)
    on_host = session.hostctl.call("accessory", "list")["accessories"]
    variables = {name: list(one.env) for name, one in session.loaded.config.accessories.items()}
    listed = [{**one, "variables": one["variables"] or variables.get(one["name"], [])} for one in on_host]
    if as_json:
        print(json.dumps(listed))
    else:
        print("\n".join(table(listed)) if listed else "none; add accessories to deploy.yml, then run deploy provision")


@command.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until Ctrl-C.")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines.")
@click.option("--since", callback=a_time, metavar="TIME", help="Only newer lines: 10m, 2h, 3d, or a time.")
@click.option(
    "--grep", callback=a_pattern, metavar="REGEX", help="Only lines that match; case matters if REGEX has capitals."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@common
def logs(
    options: Options, name: str, follow: bool, count: int, since: float | None, grep: str | None, as_json: bool
) -> None:
    """Show the log of an accessory."""
    from homeport.remote.interactive import attach
    from homeport.remote.session import begin

    session = begin(options)
    _require_known(session.hostctl.call("accessory", "list")["accessories"], name, session.hostctl.where)
    args = ["-n", str(count), *(["-f"] if follow else []), *(["--json"] if as_json else [])]
    args += [f"--since={since:.0f}"] if since is not None else []
    args += [f"--grep={grep}"] if grep else []
    attach(session, ["accessory", "logs", name, *args], "deploy accessory logs")


@command.command()
@_name
@as_json
@common
def restart(options: Options, name: str, as_json: bool) -> None:
    """Restart an accessory, and wait until it listens. Data that it holds only in memory is lost."""
    accessory = _act(options, "restart", name)
    print(json.dumps(accessory) if as_json else "\n".join(table([accessory])))


@command.command()
@_name
@as_json
@common
def remove(options: Options, name: str, as_json: bool) -> None:
    """Remove an accessory that deploy.yml no longer names. Its data stays on the host; the path is printed.

    Refused while the environment of the live release still refers to it.
    """
    removed = _act(options, "remove", name)
    if as_json:
        print(json.dumps(removed))
    else:
        where = f"; its data is kept in {removed['aside']} on the host" if removed["aside"] else ""
        package = "; its package stays installed" if removed["kind"] == "package" else ""
        print(f"removed {name}{where}{package}")


def _act(options: Options, action: str, name: str) -> Json:
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin

    return begin(options).hostctl.call("accessory", action, name, *performer_options())


def _require_known(accessories: list[Json], name: str, where: str) -> None:
    """Check the name before the terminal is attached. Raises HomeportError (usage) for an unknown one."""
    from homeport.core.errors import ExitCode, HomeportError

    if name not in [one["name"] for one in accessories]:
        raise HomeportError(f"there is no accessory {name}", where, "deploy accessory list", ExitCode.USAGE)


def table(accessories: list[Json]) -> list[str]:
    """The accessories as lines of columns."""
    head = ("NAME", "KIND", "STATE", "LISTENS ON", "VARIABLES", "MEMORY", "DISK")
    return columns([head, *map(_row, accessories)])


def _row(accessory: Json) -> tuple[str, ...]:
    from homeport.core.humanize import size

    state = f"{accessory['state']}, LEFT OVER" if accessory["left_over"] else accessory["state"]
    warning = ", BEYOND THE HOST" if accessory["beyond"] else ""
    memory = size(accessory["memory"]) if accessory["memory"] is not None else "-"
    listens = ", ".join(accessory["listens"]) or "-"
    return (
        accessory["name"],
        accessory["kind"],
        state,
        listens + warning,
        ", ".join(accessory["variables"]) or "-",
        memory,
        size(accessory["bytes"]),
    )
