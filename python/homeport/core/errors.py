"""The error of every refusal, in three parts: what failed, where, and the fix."""

from __future__ import annotations

from enum import IntEnum

from hostctl.common.documents import ErrorDocument


class ExitCode(IntEnum):
    """The exit status of a verb."""

    DONE = 0
    FAILED = 1  # nothing changed
    USAGE = 2  # usage or configuration
    REVERTED = 3  # the transition failed, the previous release is serving
    LOCKED = 4  # somebody else holds the lock
    PERSON = 5  # a person must act; the message says on what
    INTERRUPTED = 130


class HomeportError(Exception):
    """A refusal or failure that the user can act on.

    `what` is one sentence, `where` is file:line or host:path, `fix` is the command or edit that removes the cause.
    `reason` is a code for callers that act on this error; most errors have none.
    """

    reason = ""

    def __init__(self, what: str, where: str = "", fix: str = "", code: int = ExitCode.FAILED) -> None:
        super().__init__(what)
        self.what, self.where, self.fix, self.code = what, where, fix, code

    def lines(self) -> list[str]:
        """The three parts as printed; empty parts are omitted."""
        parts = [self.what]
        if self.where:
            parts.append(f"  where: {self.where}")
        if self.fix:
            parts.append(f"  fix: {self.fix}")
        return parts

    def as_dict(self) -> ErrorDocument:
        """The error as `--json` prints it."""
        return {"what": self.what, "where": self.where, "fix": self.fix, "code": int(self.code)}
