"""deploy notify: who is told what happens to the app."""

from __future__ import annotations

import json

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, as_json, common, listing
from hostctl.common.documents import Json
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy notify

  deploy notify test          (sends one to everybody, and says what each answered)

  deploy notify list --json | jq '.[] | select(.last.ok == false)'
"""


@listing(EPILOG, "List every receiver: what it is told, and what it answered last.")
def command(options: Options, as_json: bool) -> None:
    """List who is told what happens to the app, or send a test.

    The host tells how a push, rollback, restore or drill ended, and when trouble with the database begins and ends.
    What fails before it gets there, such as a build, is told from here.
    """
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    found = dated(begin(options).hostctl.call("notify", "list")["receivers"])
    print(json.dumps(found) if as_json else "\n".join(table(found)))


@command.command()
@as_json
@common
def test(options: Options, as_json: bool) -> None:
    """Send a test to every receiver, the way the host sends everything. Exit status 1 unless all took it."""
    from homeport.core.performer import here, who
    from homeport.remote.session import begin

    host = begin(options).hostctl
    found = host.call("notify", "test", "--who", who(), "--from", here())["receivers"]
    print(json.dumps(found) if as_json else "\n".join(map(_answer, found)))
    failed = [one["url"] for one in found if not one["ok"]]
    if failed:
        fix = "correct the URL (deploy secrets set NAME), then run: deploy provision"
        raise HomeportError(f"not taken by {' and '.join(failed)}", host.where, fix, ExitCode.FAILED)


def _answer(one: Json) -> str:
    how = f"answered {one['status']}" if one["status"] else "did not answer"
    return f"{one['url']} {how}" + (f": {one['answer']}" if one["answer"] else "")


def table(receivers: list[Json]) -> list[str]:
    """The receivers as lines of columns."""
    if not receivers:
        return ["nobody is told: add notify to deploy.yml, then run deploy provision"]
    return columns([("URL", "FORMAT", "ON", "WAITING", "LAST"), *map(_row, receivers)])


def _row(one: Json) -> tuple[str, ...]:
    last = one["last"]
    told = f"{last['at']}  {last['event']}  {_outcome(last)}" if last else "-"
    return one["url"], one["format"], " ".join(one["on"]), str(one["waiting"]), told


def _outcome(last: Json) -> str:
    if last["ok"]:
        return "taken"
    said = f"{last['status']} {last['answer']}" if last["status"] else last["answer"]
    return f"{said}; again {last['next_try']}" if last["next_try"] else f"given up: {said}"
