"""The team's own programs around a push or rollback, on the laptop: hooks_path/pre-push and its like."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from homeport.config import Loaded
from homeport.errors import ExitCode, HomeportError


@contextmanager
def around(loaded: Loaded, verb: str) -> Iterator[None]:
    """Run pre-<verb>, the block, then post-live; post-failure when the block raises.

    A failing pre-hook stops everything with exit code 1. A failing post-hook is told and changes nothing: by then the
    release is live.
    """
    if verb == "push":
        run(loaded, "pre-build", verb)
    run(loaded, f"pre-{verb}", verb)
    try:
        yield
    except BaseException:
        _tolerate(loaded, "post-failure", verb)
        raise
    _tolerate(loaded, "post-live", verb)


def run(loaded: Loaded, name: str, verb: str) -> None:
    """Run one hook if there is such a program. Raises HomeportError when it fails."""
    program = loaded.root / loaded.config.hooks_path / name
    if not program.is_file():
        return
    if not os.access(program, os.X_OK):
        raise HomeportError(f"the hook {name} is not executable", str(program), f"chmod +x {program}", ExitCode.USAGE)
    done = subprocess.run([str(program)], cwd=loaded.root, env={**os.environ, **variables(loaded, verb)}, check=False)
    if done.returncode != 0:
        raise HomeportError(f"the hook {name} ended with status {done.returncode}", str(program), "", ExitCode.FAILED)


def variables(loaded: Loaded, verb: str) -> dict[str, str]:
    """What a hook is told, by environment variables."""
    config = loaded.config
    return {
        "HOMEPORT_APP": config.app,
        "HOMEPORT_DESTINATION": loaded.destination or "",
        "HOMEPORT_DOMAIN": config.domains[0].name,
        "HOMEPORT_HOST": str(config.host),
        "HOMEPORT_VERB": verb,
    }


def _tolerate(loaded: Loaded, name: str, verb: str) -> None:
    import sys

    try:
        run(loaded, name, verb)
    except HomeportError as error:
        print("warning: " + " ".join(error.lines()), file=sys.stderr)
