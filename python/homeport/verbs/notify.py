"""deploy notify: the receivers of notifications about the app."""

from __future__ import annotations

import json

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, as_json, common, listing
from hostctl.common.documents import Json
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy notify

  deploy notify test          (sends a test to every receiver, and shows each answer)

  deploy notify list --json | jq '.[] | select(.last.ok == false)'
"""


@listing(EPILOG, "List the receivers: the events that each gets, and its last answer.")
def command(options: Options, as_json: bool) -> None:
    """List the receivers of notifications, or send a test.

    The host sends the result of every push, rollback, restore and drill, and reports when trouble with the database
    begins and ends. This machine sends failures from before the host is involved, such as a failed build.
    """
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    receivers = with_iso_times(begin(options).hostctl.call("notify", "list")["receivers"])
    print(json.dumps(receivers) if as_json else "\n".join(table(receivers)))


@command.command()
@as_json
@common
def test(options: Options, as_json: bool) -> None:
    """Send a test from the host to every receiver. Exit status 1 unless all accepted it."""
    from homeport.core.performer import performer_options
    from homeport.remote.session import begin

    host = begin(options).hostctl
    receivers = host.call("notify", "test", *performer_options())["receivers"]
    print(json.dumps(receivers) if as_json else "\n".join(map(_answer, receivers)))
    failed = [receiver["url"] for receiver in receivers if not receiver["ok"]]
    if failed:
        fix = "correct the URL (deploy secrets set NAME), then run: deploy provision"
        raise HomeportError(f"not accepted by {' and '.join(failed)}", host.where, fix, ExitCode.FAILED)


def _answer(receiver: Json) -> str:
    how = f"answered {receiver['status']}" if receiver["status"] else "did not answer"
    return f"{receiver['url']} {how}" + (f": {receiver['answer']}" if receiver["answer"] else "")


def table(receivers: list[Json]) -> list[str]:
    """The receivers as lines of columns."""
    if not receivers:
        return ["no receivers; add notify to deploy.yml, then run deploy provision"]
    return columns([("URL", "FORMAT", "ON", "WAITING", "LAST"), *map(_row, receivers)])


def _row(receiver: Json) -> tuple[str, ...]:
    last = receiver["last"]
    newest = f"{last['at']}  {last['event']}  {_outcome(last)}" if last else "-"
    return receiver["url"], receiver["format"], " ".join(receiver["on"]), str(receiver["waiting"]), newest


def _outcome(last: Json) -> str:
    if last["ok"]:
        return "accepted"
    answer = f"{last['status']} {last['answer']}" if last["status"] else last["answer"]
    return f"{answer}; next try {last['next_try']}" if last["next_try"] else f"given up: {answer}"
