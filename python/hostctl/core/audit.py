"""The audit of an app: one line of JSON for each act, appended and never rewritten."""

from __future__ import annotations

import time

from hostctl.common.documents import Result
from hostctl.common.files import Json, append_json, read_lines
from hostctl.core.paths import App


def append(app: App, asked: Json, result: Result | Json) -> None:
    """Append one transition. `asked` is its journal."""
    now = time.time()
    line = {
        "at": now,
        "who": asked["who"],
        "from": asked["from"],
        "verb": asked["verb"],
        "transition": asked.get("id"),
    }
    line |= {"release": result.get("release"), "previous": result.get("previous"), "result": result["result"]}
    line |= {
        "code": result["code"],
        "seconds": round(now - asked["at"], 3),
        "error": (result["error"] or {}).get("what"),
    }
    line |= {"env_changes": result.get("env_changes")}
    append_json(app.audit, line, durable=True)


def note(app: App, who: str, origin: str, verb: str, text: str) -> None:
    """Append an act that is not a transition."""
    line = {
        "at": time.time(),
        "who": who,
        "from": origin,
        "verb": verb,
        "result": "done",
        "code": 0,
        "message": text,
    }
    append_json(app.audit, line, durable=True)


def read(app: App, last: int) -> list[Json]:
    """The last entries, the newest one last."""
    return read_lines(app.audit)[-last:]
