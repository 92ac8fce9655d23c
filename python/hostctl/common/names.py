"""The patterns of the names that hostctl accepts. A value that does not match never reaches a path or a command."""

from __future__ import annotations

import os
import re
import time

from hostctl.common.errors import USAGE, HostError
from hostctl.common.timestamps import compact

PATTERNS = {
    "app": r"[a-z][a-z0-9-]{0,30}",
    "release": r"\d{8}T\d{6}Z-[0-9a-z]{7,12}",
    "digest": r"[0-9a-f]{64}",
    "transition": r"\d{8}T\d{9}Z-[0-9a-f]{6}",
    "epoch": r"\d{8}T\d{6}Z-[0-9a-f]{6}",
    "reference": r"[0-9A-Za-z][0-9A-Za-z-]{0,63}",
    "domain": r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?",
    "address": r"[0-9a-f:][0-9a-f:.]{1,44}",
    "variable": r"[A-Za-z_][A-Za-z0-9_]{0,254}",
    "program": r"[a-z_][a-zA-Z0-9_]{0,63}",
    "job": r"[a-z][a-z0-9-]{0,39}",
    "event": r"[A-Za-z0-9*][A-Za-z0-9*:.,/~_+ -]{0,600}",
    "accessory": r"[a-z][a-z0-9-]{0,19}",
    "line": r"[^\x00-\x1f\x7f]{0,400}",
    "path": r"/[^\x00-\x20\x7f#]{0,1000}",
    "mode": r"0?[0-7]{3,4}",
    "unit": r"[A-Za-z0-9][A-Za-z0-9:_.@-]{0,200}\.(service|timer|path|socket)",
    "command": r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}",
}


def matches(kind: str, value: object) -> bool:
    """Whether the whole value is a name of that kind."""
    return isinstance(value, str) and re.fullmatch(PATTERNS[kind], value, re.ASCII if kind != "line" else 0) is not None


def checked(kind: str, value: object) -> str:
    """The value, if it is a name of that kind. Raises HostError (usage) otherwise."""
    if not isinstance(value, str) or not matches(kind, value):
        raise HostError(
            f"not a {kind}: {str(value)[:80]!r}", "the arguments", f"a {kind} matches {PATTERNS[kind]}", USAGE
        )
    return value


def transition_id() -> str:
    """A new transition's id: UTC to the millisecond, so that ids sort by age, and six random hex digits."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    return f"{stamp}{int(now * 1000) % 1000:03d}Z-{os.urandom(3).hex()}"


def epoch_id() -> str:
    """A new epoch's id: UTC to the second, so that ids sort by age, and six random hex digits."""
    return f"{compact(time.time())}-{os.urandom(3).hex()}"
