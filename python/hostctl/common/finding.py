"""The findings of the checks of `deploy doctor`, on the host and on the laptop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from hostctl.common.files import Json

OK, SKIPPED, WARNING, ERROR = "ok", "skipped", "warning", "error"


class Finding(NamedTuple):
    """What a check found: `state` is OK, SKIPPED, WARNING or ERROR; `says` is the message, `fix` the remedy."""

    state: str
    says: str
    fix: str = ""


def ok(says: str) -> list[Finding]:
    """One finding: the check passed."""
    return [Finding(OK, says)]


def skipped(why: str) -> list[Finding]:
    """One finding: the check was skipped."""
    return [Finding(SKIPPED, why)]


def run_check(check: str, look: Callable[[], Iterable[Finding]]) -> list[Json]:
    """Run one check. Returns its findings as documents of `check`, `state`, `says` and `fix`; raises nothing."""
    try:
        found = list(look())
    except Exception as error:  # an exception in one check must not hide the findings of the others
        found = [_failed(error)]
    return [{"check": check, **one._asdict()} for one in found]


def _failed(error: Exception) -> Finding:
    """The finding for an exception: HostError and HomeportError have a fix; after any other the check has no result."""
    if what := getattr(error, "what", ""):
        return Finding(ERROR, str(what), str(getattr(error, "fix", "")))
    return Finding(
        WARNING, f"could not be looked at: {type(error).__name__}: {error}", "look at it on the host yourself"
    )
