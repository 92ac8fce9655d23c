"""The journal of a transition: which steps were begun, which are done, and how it ended.

A step is recorded as begun before it acts, so after a crash it is known which steps to undo. Every write is synced.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from hostctl.common.documents import ErrorDocument, Result, StepTime
from hostctl.common.files import Json, append_json, make_directory, read_json, read_lines, write_json
from hostctl.common.names import checked, matches
from hostctl.core.paths import App


class Journal:
    """One transition on disk, with its event log beside it."""

    def __init__(self, app: App, content: Json) -> None:
        self.app, self.content = app, content
        self.directory = app.transitions / content["id"]
        self._events = len(read_lines(self.directory / "events.jsonl"))

    @property
    def id(self) -> str:
        return str(self.content["id"])

    @property
    def release(self) -> str:
        return str(self.content["release"])

    @property
    def previous(self) -> str | None:
        """The release that was live when the transition began; None on a first push, and before it began."""
        previous = self.content.get("previous")
        return None if previous is None else str(previous)

    @property
    def result(self) -> Result | None:
        return self.content.get("result")

    @property
    def begun(self) -> list[str]:
        """The names of the steps that were begun, in order."""
        return [step["name"] for step in self.content["steps"]]

    @property
    def reverting(self) -> ErrorDocument | None:
        """The error for which the transition is being undone; None if it is not."""
        return self.content.get("reverting")

    def save(self) -> None:
        write_json(self.directory / "journal.json", self.content)

    def set(self, **facts: Any) -> None:
        """Set facts in the journal, durably."""
        self.content.update(facts)
        self.save()

    def begin(self, step: str) -> None:
        """Record that a step begins. The same write records that the step before it is done."""
        self.content["steps"].append({"name": step, "at": time.time(), "ms": None})
        self.save()

    def done(self) -> int:
        """Record that the last step is done, on disk with the next write; returns its milliseconds."""
        step = self.content["steps"][-1]
        step["ms"] = round((time.time() - step["at"]) * 1000)
        return int(step["ms"])

    def steps(self) -> list[StepTime]:
        """Name and milliseconds of each step that was done."""
        return [{"name": s["name"], "ms": s["ms"]} for s in self.content["steps"] if s["ms"] is not None]

    def event(self, step: str, state: str, text: str = "", ms: int | None = None) -> None:
        """Append an event for those who follow. A full disk must not stop an undo, so a failed write is ignored."""
        self._events += 1
        told = {"n": self._events, "at": time.time(), "step": step, "state": state, "ms": ms, "text": text}
        with contextlib.suppress(OSError):
            append_json(self.directory / "events.jsonl", told)


def create(app: App, transition: str, verb: str, release: str | None, who: str, origin: str, **more: Any) -> Journal:
    """Begin a journal on disk."""
    for path, mode in ((app.transitions, 0o700), (app.transitions / transition, 0o700)):
        make_directory(path, mode)
    content: Json = {
        "id": transition,
        "verb": verb,
        "release": release,
        "previous": None,
        "who": who,
        "from": origin,
    }
    content |= {"at": time.time(), "steps": [], "reverting": None, "result": None, "closed": False, **more}
    journal = Journal(app, content)
    journal.save()
    return journal


def load(app: App, transition: str) -> Journal | None:
    """The journal of that id; None when there is none."""
    content = read_json(app.transitions / checked("transition", transition) / "journal.json")
    return None if content is None else Journal(app, content)


def ids(app: App) -> list[str]:
    """All transitions, oldest first."""
    try:
        return sorted(path.name for path in app.transitions.iterdir() if matches("transition", path.name))
    except FileNotFoundError:
        return []


def every(app: App) -> list[Journal]:
    """All journals, oldest first."""
    found = (load(app, transition) for transition in ids(app))
    return [journal for journal in found if journal is not None]


def unfinished(app: App) -> list[Journal]:
    """Switches that neither succeeded nor were undone; the newest first, as they are to be undone in that
    order.
    """
    return [j for j in reversed(every(app)) if j.result is None and j.content["verb"] != "build"]


def draining(app: App) -> list[Journal]:
    """Switches that succeeded, whose old instance has not been stopped yet."""
    return [j for j in every(app) if j.result and j.result["result"] == "live" and not j.content["closed"]]
