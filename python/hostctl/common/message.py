"""The notices that Homeport sends about an app, and their form for each kind of receiver. Pure functions.

A receiver of Slack's format takes {"text": …} with &, < and > escaped (docs.slack.dev, Formatting message text);
Mattermost, Rocket.Chat and Discord (its URL with /slack behind it) take the same. ntfy takes the text as the body, and
the title, the priority and the tags as headers (docs.ntfy.sh/publish).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from hostctl.common.documents import DrillResult, ErrorDocument, Json, NoticeDocument, Result
from hostctl.common.timestamps import utc

SUCCESS, FAILURE, ROLLBACK, DRILL, TROUBLE, TEST = "success", "failure", "rollback", "drill", "trouble", "test"
EVENTS = (SUCCESS, FAILURE, ROLLBACK, DRILL, TROUBLE)
FORMATS = ("slack", "ntfy", "json", "plain")
LONGEST = 1500  # characters of a text, which people read on a phone
MOST_LINES = 12
# verbs whose command has another name
CALLED = {"env": "env push", "load": "db load", "upgrade": "db upgrade"}


class Notice(NamedTuple):
    """One event. `well` is True for good news; `facts` are for programs."""

    event: str
    well: bool
    title: str
    text: str
    facts: Json


class Post(NamedTuple):
    """The headers and body of a request to a receiver."""

    headers: dict[str, str]
    body: bytes


# ---------------------------------------------------------------------------------------------- notices


def of_transition(app: str, journal: Json, result: Result, git: Json | None) -> Notice:
    """The notice that a transition ended. `git` is the commit of its release."""
    verb, error = str(journal["verb"]), result["error"]
    facts: Json = {"transition": journal.get("id"), "verb": verb, "who": journal["who"], "from": journal["from"]}
    facts |= {key: result.get(key) for key in ("release", "previous", "result", "code")}
    if error is not None:
        return failure(app, verb, str(journal["who"]), error, {**facts, "live": result.get("previous")})
    event = ROLLBACK if verb == "rollback" else SUCCESS
    done = f"{_act(verb, str(journal['who']))} is done, {result['release']} is live"
    return Notice(event, True, f"{app}: {done}", _commit(git), facts)


def _act(verb: str, who: str) -> str:
    return CALLED.get(verb, verb) + (f" by {who}" if who else "")


def _commit(git: Json | None) -> str:
    """The commit of the release for people: branch, short sha and subject."""
    known = {key: str((git or {}).get(key) or "") for key in ("ref", "sha", "subject")}
    name = " ".join(filter(None, [known["ref"], known["sha"][:7]]))
    return ": ".join(filter(None, [name, known["subject"]]))


def failure(app: str, verb: str, who: str, error: ErrorDocument, facts: Json) -> Notice:
    """The notice that a verb failed, on the host or before. `facts["live"]` is the release that serves, or None."""
    serves = f"; {facts['live']} serves on" if facts.get("live") else ""
    fix = f"fix: {error['fix']}" if error["fix"] else ""
    text = "\n".join(filter(None, [shortened(str(error["what"])), fix]))
    more = {**facts, "verb": verb, "who": who, "error": error}
    return Notice(FAILURE, False, f"{app}: {_act(verb, who)} failed{serves}", text, more)


def of_drill(app: str, before: DrillResult | None, result: DrillResult) -> Notice | None:
    """The notice that a drill failed, or passed after one that failed; None if it passed as before."""
    facts: Json = {key: result.get(key) for key in ("ok", "found", "up_to", "seconds")}
    if not result["ok"]:
        text = "\n".join([*result["found"], str(result.get("offer") or "")]).strip()
        return Notice(DRILL, False, f"{app}: the backup failed its drill", shortened(text), facts)
    if before is None or before["ok"]:
        return None
    text = f"up to {utc(result['up_to'])}" if result["up_to"] else ""
    return Notice(DRILL, True, f"{app}: the backup passed its drill again", text, facts)


def of_trouble(app: str, trouble: Sequence[str], since: float) -> Notice:
    """The notice of trouble with the database since then; without any, the notice that it ended."""
    facts: Json = {"since": since, "trouble": list(trouble)}
    if trouble:
        return Notice(TROUBLE, False, f"{app}: trouble with the database", shortened("\n".join(trouble)), facts)
    return Notice(TROUBLE, True, f"{app}: the database is well again", f"there was trouble since {utc(since)}", facts)


def test(app: str, who: str) -> Notice:
    """The notice that `deploy notify test` sends."""
    return Notice(TEST, True, f"{app}: a test", f"{who} asked whether this arrives, and it does", {"who": who})


def document(notice: Notice, app: str, host: str, at: float) -> NoticeDocument:
    """A notice as JSON: of which app, from which host, and when."""
    return {
        "app": app,
        "host": host,
        "at": at,
        "event": notice.event,
        "well": notice.well,
        "title": notice.title,
        "text": notice.text,
        "facts": notice.facts,
    }


def shortened(text: str) -> str:
    """A text cut to its first line and its last ones: the cause of a failed build is in the last lines."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if len(lines) > MOST_LINES:
        lines = [lines[0], "…", *lines[2 - MOST_LINES :]]
    whole = "\n".join(lines)
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 1]}…"


# ---------------------------------------------------------------------------------------------- requests


def post(format: str, notice: NoticeDocument) -> Post:
    """The request that sends a notice to a receiver of that format, one of FORMATS."""
    return {"slack": _slack, "ntfy": _ntfy, "json": _json, "plain": _plain}[format](notice)


def _lines(notice: NoticeDocument) -> str:
    return "\n".join(filter(None, [notice["text"], f"on {notice['host']}, {utc(notice['at'])}"]))


def _slack(notice: NoticeDocument) -> Post:
    text = f"*{_escaped(notice['title'])}*\n{_escaped(_lines(notice))}"
    return Post({"Content-Type": "application/json"}, json.dumps({"text": text}).encode())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _ntfy(notice: NoticeDocument) -> Post:
    headers = {"Title": _header(notice["title"]), "Priority": "default" if notice["well"] else "high"}
    headers |= {"Tags": "white_check_mark" if notice["well"] else "rotating_light"}
    return Post({**headers, "Content-Type": "text/plain; charset=utf-8"}, _lines(notice).encode("utf-8", "replace"))


def _header(text: str) -> str:
    """A text as the value of a header, which is one line of ASCII."""
    return re.sub(r"[^\x20-\x7e]", "?", text)


def _json(notice: NoticeDocument) -> Post:
    shown = {key: value for key, value in notice.items() if key not in ("receiver", "facts", "tries", "next")}
    return Post({"Content-Type": "application/json"}, json.dumps({**notice["facts"], **shown}).encode())


def _plain(notice: NoticeDocument) -> Post:
    text = f"{notice['title']}\n{_lines(notice)}\n"
    return Post({"Content-Type": "text/plain; charset=utf-8"}, text.encode("utf-8", "replace"))
