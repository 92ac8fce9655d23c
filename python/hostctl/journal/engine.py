"""The transaction engine: a transition is a list of steps, each with an undo.

The flip renames one symlink, and that symlink alone says what is live. So after a crash the journal and the records
are enough: a transition that had flipped is finished, any other one is undone. `perform` runs a transition, `settle`
finishes or undoes an interrupted one, and both undo through `revert` and end in `conclude`.
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

# the verbs that make a new release
NEW = ("push", "env")


class Interrupted(Exception):  # noqa: N818 - an event, not a mistake
    """systemd asked this process to end."""


class Work:
    """The context of a step: the app, the journal of its transition, and the host."""

    def __init__(self, app: App, journal: Journal, host: Host, booting: bool = False) -> None:
        self.app, self.journal, self.host = app, journal, host
        # at boot, systemd starts units after this process: waiting for one would block for ever
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
        """Which data the transition restores; None when it does not change the data."""
        return self.journal.content.get("data")

    @property
    def in_place(self) -> bool:
        """Whether the live release stays live, and only its data is replaced."""
        return self.data is not None and self.verb != "rollback"

    def note(self, text: str) -> None:
        """Report a line about the current step to those who follow the transition."""
        self.journal.event(_last_step(self.journal), "note", text)

    def show_phase(self, phase: str) -> None:
        """Write the phase into lock.json. The flock is what locks, so a failed write is reported and no error."""
        content = self.journal.content
        state = {"who": content["who"], "from": content["from"], "verb": self.verb, "release": self.release}
        state |= {
            "phase": phase,
            "since": content["at"],
            "message": "",
            "manual": False,
            "transition": self.journal.id,
        }
        try:
            lock.update(self.app, state)
        except OSError as error:
            self.note(f"lock.json was not written: {error}")


class Step(NamedTuple):
    """One step: `do` may return a line to show, `undo` is idempotent; recovery does a step with `repeat` once more."""

    name: str
    do: Callable[[Work], str | None]
    undo: Callable[[Work], None]
    repeat: bool = False


def nothing(_: Work) -> None:
    """The undo of a step that changes nothing."""


def perform(work: Work, steps: Sequence[Step]) -> Result:
    """Do the steps; after a failure, undo those that were begun. Returns the result, which is on disk by then."""
    try:
        for step in steps:
            _do(work, step)
    except Exception as error:
        return revert(work, steps, as_error(work, error))
    return conclude(work, "live", None)


def _do(work: Work, step: Step) -> None:
    """Journal the step as begun before it acts, so that a crash in between leads to its undo."""
    work.journal.begin(step.name)
    work.show_phase(step.name)
    work.journal.event(step.name, "begin")
    text = step.do(work)
    work.journal.event(step.name, "ok", text or "", work.journal.done())


def settle(work: Work, steps: Sequence[Step]) -> Result:
    """Finish or undo a transition that a crash interrupted. Returns the result."""
    journal = work.journal
    if must_finish(work.app.live(), journal.release, journal.begun, journal.reverting is not None):
        for step in steps:
            if step.repeat:
                step.do(work)
        return conclude(work, "live", None)
    return revert(work, steps, _interruption(journal))


def must_finish(live: str | None, release: str, begun: Collection[str], reverting: bool) -> bool:
    """Whether an interrupted transition must be finished, because it had flipped, and not undone."""
    return live == release and "flip" in begun and not reverting


def revert(work: Work, steps: Sequence[Step], error: HostError) -> Result:
    """Undo every step that was begun, the last one first. Returns the result, which is on disk by then."""
    work.journal.event(_last_step(work.journal), "failed", error.what)
    work.journal.content["reverting"] = error.as_dict()
    try:
        work.journal.save()
    except OSError as full:
        # the undo frees space; a crash before it ends counts as an interruption, which is undone as well
        work.note(f"the journal was not written: {full}")
    failures = [failure for step in reversed(steps) if (failure := _undo(work, step))]
    return conclude(work, "failed", error, failures)


def _undo(work: Work, step: Step) -> str | None:
    """Undo a step if it was begun. Returns why that failed; None when it did not."""
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
    """Write down how the transition ended: in the records, the audit, the queue of notices, and last in the journal.

    `outcome` is "live" or "failed"; `failures` are the undos that failed. Returns the result.
    """
    if error is not None:
        error = _with_code(work, error, failures)
        _mark_failed(work, error)
    result = _result(work, outcome, error)
    audit.append(work.app, work.journal.content, result)
    events.transition_ended(work.app, work.journal.content, result)
    nothing_to_drain = outcome != "live" or work.journal.previous in (None, work.release)
    work.journal.set(result=result, ended=time.time(), closed=nothing_to_drain)
    return result


def _result(work: Work, outcome: Outcome, error: HostError | None) -> Result:
    previous = work.journal.previous
    return {
        "result": outcome,
        "release": work.release,
        "previous": previous,
        "code": error.code if error else DONE,
        "error": error.as_dict() if error else None,
        "steps": work.journal.steps(),
        "kept": work.journal.content.get("kept"),
        "env_changes": records.env_changes(work.app, previous, work.release) if outcome == "live" else None,
    }


def _with_code(work: Work, error: HostError, failures: Sequence[str]) -> HostError:
    """The error with its exit code: PERSON when an undo failed, else REVERTED or FAILED by what serves now."""
    if failures:
        what = f"{error.what}; then {'; '.join(failures)}"
        fix = f"look at systemctl status '{work.app.name}@*' and {work.journal.directory}"
        return HostError(what, error.where, fix, PERSON)
    code = REVERTED if work.journal.previous else FAILED
    return HostError(error.what, error.where, error.fix, code)


def _mark_failed(work: Work, error: HostError) -> None:
    """Mark a new release as failed. The target of a failed rollback keeps its state."""
    if work.app.live() == work.release or work.verb not in NEW:
        return
    if not (work.app.record(work.release) / "record.json").exists():
        files.remove_tree(work.app.record(work.release))
    else:
        records.mark(work.app, work.release, records.FAILED_STATE, error.what[:500])
        records.forget_environment(work.app, work.release)


# ---------------------------------------------------------------------------------------------- errors


def as_error(work: Work, error: Exception) -> HostError:
    """The exception as a HostError that names the step in which it was raised."""
    if isinstance(error, HostError):
        return error
    step = _last_step(work.journal)
    if isinstance(error, Interrupted):
        what = f"interrupted in {step}: systemd stopped the transition"
        return HostError(what, work.app.name, retry_command(work.verb))
    where, fix = str(work.journal.directory), "read deploy logs, and correct what it reports"
    if isinstance(error, OSError):
        return of_system(error, step, where, fix)
    return HostError(f"{step}: {type(error).__name__}: {error}"[:2000], where, fix)


def _interruption(journal: Journal) -> HostError:
    """The error that the transition is undone for: the one in the journal, else that it was killed."""
    if journal.reverting is not None:
        return HostError(**journal.reverting)
    what = f"interrupted in {_last_step(journal)}: the transition was killed"
    return HostError(what, journal.app.name, retry_command(str(journal.content["verb"])))


def _last_step(journal: Journal) -> str:
    """The step that was begun last; "lock" before the first one."""
    return journal.begun[-1] if journal.begun else "lock"


def retry_command(verb: str) -> str:
    """The command that runs such a transition again."""
    commands = {"load": "db load", "upgrade": "db upgrade", "env": "env push"}
    return f"deploy {commands.get(verb, verb)}"
