"""What a check of `deploy doctor` comes to, on the host and on the laptop alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from hostctl.common.files import Json

OK, SKIPPED, WARNING, ERROR = "ok", "skipped", "warning", "error"


class Finding(NamedTuple):
    """How grave it is, in words, and what mends it. `state` is OK, SKIPPED, WARNING or ERROR."""

    state: str
    says: str
    fix: str = ""


def ok(says: str) -> list[Finding]:
    """All is well."""
    return [Finding(OK, says)]


def skipped(why: str) -> list[Finding]:
    """It was not looked at."""
    return [Finding(SKIPPED, why)]


def examined(check: str, look: Callable[[], Iterable[Finding]]) -> list[Json]:
    """What one check finds, as documents of `check`, `state`, `says` and `fix`. Raises nothing."""
    try:
        found = list(look())
    except Exception as error:  # what one check trips over must not hide what the others see
        found = [_failed(error)]
    return [{"check": check, **one._asdict()} for one in found]


def _failed(error: Exception) -> Finding:
    """A HostError or HomeportError says itself what mends it; from anything else the check learned nothing."""
    if what := getattr(error, "what", ""):
        return Finding(ERROR, str(what), str(getattr(error, "fix", "")))
    return Finding(
        WARNING, f"could not be looked at: {type(error).__name__}: {error}", "look at it on the host yourself"
    )
