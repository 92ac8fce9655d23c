"""The exit codes, and the exception that every refusal and failure is."""

from __future__ import annotations

import errno

from hostctl.common.documents import ErrorDocument

DONE = 0
FAILED = 1  # nothing changed
USAGE = 2
REVERTED = 3  # the transition failed, the previous release is serving
LOCKED = 4
PERSON = 5  # a person must act; the message says on what


class HostError(Exception):
    """A refusal or failure: what is wrong, where (file or host:path), the command that mends it, the exit code; and for
    callers that decide by it a `reason`, which is a constant of the module that raises it.
    """

    def __init__(self, what: str, where: str = "", fix: str = "", code: int = FAILED, *, reason: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix, self.code, self.reason = what, where, fix, code, reason

    def as_dict(self) -> ErrorDocument:
        """The error as JSON prints it."""
        return {"what": self.what, "where": self.where, "fix": self.fix, "code": self.code}


def of_system(error: OSError, doing: str, where: str, fix: str) -> HostError:
    """An OSError as a HostError. A full disk, or a quota that is used up, has its own fix."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = f"the disk is full: {error.strerror} ({doing})"
        remedy = "free some space on the host (df -h and df -i show it), or lower retain_releases; then try again"
        return HostError(full, str(error.filename or where), remedy)
    return HostError(f"{doing}: {error}", where, fix)
