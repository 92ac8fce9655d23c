"""A transition: a list of steps, each with an undo, and one way back that failure and recovery share.

What is live is the symlink alone; the flip renames it. So a transition that was killed is finished when it
had flipped and undone when it had not, from nothing but the journal and the records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from hostctl.common import files
from hostctl.common.documents import DataSource, Outcome, Result, Settings
from hostctl.common.errors import DONE, FAILED, PERSON, REVERTED, HostError, of_system
from hostctl.core import audit, lock
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal.journal import Journal
from hostctl.notify import events
from hostctl.release import records

# the transitions that make a new release
NEW = ("push", "env")


class Interrupted(Exception):  # noqa: N818 - what happened, not a mistake
    """systemd asked this process to end."""


class Work:
    """What a step works with."""

    def __init__(self, app: App, journal: Journal, host: Host, booting: bool = False) -> None:
        self.app, self.journal, self.host = app, journal, host
        # at boot systemd starts units after this process: nothing may wait for one
        self.booting = booting

    @property
    def release(self) -> str:
        return self.journal.release

    @property
    def settings(self) -> Settings:
        """The settings that the transition was begun with."""
        settings: Settings = self.journal.content["settings"]
        return settings

    @property
    def verb(self) -> str:
        return str(self.journal.content["verb"])

    @property
    def data(self) -> DataSource | None:
        """Which data the transition brings back; None when it leaves the data as it is."""
        return self.journal.content.get("data")

    @property
    def in_place(self) -> bool:
        """Whether the release that is live stays so, and only its data is exchanged."""
        return self.data is not None and self.verb != "rollback"

    def note(self, text: str) -> None:
        """Tell whoever follows something about the step at work."""
        begun = self.journal.begun
        self.journal.event(begun[-1] if begun else "lock", "note", text)

    def tell(self, phase: str) -> None:
        """Keep lock.json current; it informs, so failing to write it is no error."""
        content = self.journal.content
        told = {"who": content["who"], "from": content["from"], "verb": self.verb, "release": self.release}
        told |= {
            "phase": phase,
            "since": content["at"],
            "message": "",
            "manual": False,
            "transition": self.journal.id,
        }
        try:
            lock.tell(self.app, told)
        except OSError as error:
            self.note(f"lock.json was not written: {error}")


class Step(NamedTuple):
    """One step. `do` may return a line to show; `undo` is idempotent. `again` marks what recovery repeats to
    finish.
    """

    name: str
    do: Callable[[Work], str | None]
    undo: Callable[[Work], None]
    again: bool = False


def nothing(_: Work) -> None:
    """The undo of a step that changes nothing."""


def perform(work: Work, steps: Sequence[Step]) -> Result:
    """Do the steps; on failure undo those that were begun. Returns the result, which is on disk by then."""
    try:
        for step in steps:
            _do(work, step)
    except Exception as error:
        return revert(work, steps, as_error(work, error))
    return conclude(work, "live", None)


def _do(work: Work, step: Step) -> None:
    work.journal.begin(step.name)
    work.tell(step.name)
    work.journal.event(step.name, "begin")
    text = step.do(work)
    work.journal.event(step.name, "ok", text or "", work.journal.done())


def as_error(work: Work, error: Exception) -> HostError:
    """Any exception in the shape of a refusal."""
    if isinstance(error, HostError):
        return error
    step = (work.journal.begun or ["lock"])[-1]
    if isinstance(error, Interrupted):
        return HostError(f"interrupted in {step}: systemd stopped the transition", work.app.name, again(work.verb))
    where, fix = str(work.journal.directory), "deploy logs, and mend what it says"
    if isinstance(error, OSError):
        return of_system(error, step, where, fix)
    return HostError(f"{step}: {type(error).__name__}: {error}"[:2000], where, fix)


def settle(work: Work, steps: Sequence[Step]) -> Result:
    """Finish or undo a transition that a crash left unfinished."""
    journal = work.journal
    if forward(work.app.live(), journal.release, journal.begun, journal.reverting is not None):
        for step in steps:
            if step.again:
                step.do(work)
        return conclude(work, "live", None)
    return revert(work, steps, _why_unfinished(journal))


def _why_unfinished(journal: Journal) -> HostError:
    if journal.reverting is not None:
        return HostError(**journal.reverting)
    step = (journal.begun or ["lock"])[-1]
    verb = str(journal.content["verb"])
    return HostError(f"interrupted in {step}: the transition was killed", journal.app.name, again(verb))


def again(verb: str) -> str:
    """The command that begins such a transition once more."""
    whole = {"load": "db load", "upgrade": "db upgrade", "env": "env push"}
    return f"deploy {whole.get(verb, verb)}"


def revert(work: Work, steps: Sequence[Step], error: HostError) -> Result:
    """Undo every begun step, the last first. Returns the result, which is on disk by then."""
    step = (work.journal.begun or ["lock"])[-1]
    work.journal.event(step, "failed", error.what)
    work.journal.content["reverting"] = error.as_dict()
    try:
        work.journal.save()
    except OSError as full:
        # the undo itself frees the space; a crash before that is taken for an interruption, and undone as
        # well
        work.note(f"the journal was not written: {full}")
    failures = [failure for step in reversed(steps) if (failure := _undo(work, step))]
    return conclude(work, "failed", error, failures)


def _undo(work: Work, step: Step) -> str | None:
    if step.name not in work.journal.begun:
        return None
    try:
        step.undo(work)
    except Exception as error:
        text = f"undoing {step.name} failed: {error}"
        work.journal.event(step.name, "note", text)
        return text
    return None


def conclude(work: Work, outcome: Outcome, error: HostError | None, failures: Sequence[str] = ()) -> Result:
    """Write down how it ended: in the records, the audit, and last in the journal."""
    if error is not None:
        error = _coded(work, error, failures)
        _mark_failed(work, error)
    previous, came = work.journal.previous, outcome == "live"
    result: Result = {
        "result": outcome,
        "release": work.release,
        "previous": previous,
        "code": error.code if error else DONE,
        "error": error.as_dict() if error else None,
        "steps": work.journal.steps(),
        "kept": work.journal.content.get("kept"),
        "env_changes": records.env_changes(work.app, previous, work.release) if came else None,
    }
    audit.append(work.app, work.journal.content, result)
    events.ended(work.app, work.journal.content, result)
    nothing_to_drain = outcome != "live" or previous in (None, work.release)
    work.journal.set(result=result, ended=time.time(), closed=nothing_to_drain)
    return result


def _coded(work: Work, error: HostError, failures: Sequence[str]) -> HostError:
    """The error with the exit code that says what serves now."""
    if failures:
        what = f"{error.what}; then {'; '.join(failures)}"
        return HostError(
            what,
            error.where,
            f"look at systemctl status '{work.app.name}@*' and {work.journal.directory}",
            PERSON,
        )
    code = REVERTED if work.journal.previous else FAILED
    return HostError(error.what, error.where, error.fix, code)


def _mark_failed(work: Work, error: HostError) -> None:
    """A pushed release that failed is failed; one that was to be taken back stays what it was."""
    if work.app.live() == work.release or work.verb not in NEW:
        return
    if not (work.app.record(work.release) / "record.json").exists():
        files.remove_tree(work.app.record(work.release))
    else:
        records.mark(work.app, work.release, records.FAILED_STATE, error.what[:500])
        records.forget_environment(work.app, work.release)


def forward(live: str | None, release: str, begun: Collection[str], reverting: bool) -> bool:
    """After a crash: whether to finish the transition (it had flipped) rather than undo it."""
    return live == release and "flip" in begun and not reverting
