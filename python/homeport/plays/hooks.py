"""The team's own programs around what changes the host, on the laptop: hooks_path/pre-push and its like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homeport.config.layers import Loaded
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.performer import who

# what runs before a verb, in this order; pre-migrate comes later, between the upload and the switch
BEFORE = {"push": ("pre-build", "pre-push"), "env": ("pre-push",)}
BEFORE_MIGRATIONS = "pre-migrate"
LONGEST = 4000  # characters of an error: Linux takes 128 KiB of a variable, and nobody reads so many

STDERR = 2

Variables = dict[str, str]


@contextmanager
def around(loaded: Loaded, verb: str) -> Iterator[Variables]:
    """Run what comes before the verb, the block, then post-live; post-failure when the block raises.

    The block is given the variables that both get besides the usual ones, to add to them. A failing pre-hook stops
    everything with exit code 1. A failing post-hook is told and changes nothing: by then the release is live.
    """
    for name in BEFORE.get(verb, (f"pre-{verb}",)):
        run(loaded, name, verb)
    more: Variables = {}
    try:
        yield more
    except BaseException as error:
        _tolerate(loaded, "post-failure", verb, {**more, **of_failure(error)})
        raise
    _tolerate(loaded, "post-live", verb, more)


def run(loaded: Loaded, name: str, verb: str, more: Mapping[str, str] | None = None) -> None:
    """Run one hook if there is such a program. Raises HomeportError when it fails."""
    program = find(loaded.path(loaded.config.hooks_path), name)
    if program is None:
        return
    environ = {**os.environ, **variables(loaded, verb), **(more or {})}
    # standard output is for the verb's own result alone
    done = subprocess.run([str(program)], cwd=loaded.root, env=environ, stdout=STDERR, check=False)
    if done.returncode != 0:
        raise failed(program, done.returncode)


def find(directory: Path, name: str) -> Path | None:
    """The program of a hook; None where there is none. Raises HomeportError (usage) for one that cannot be run."""
    program = directory / name
    if not program.is_file():
        return None
    if not os.access(program, os.X_OK):
        raise HomeportError(f"the hook {name} is not executable", str(program), f"chmod +x {program}", ExitCode.USAGE)
    return program


def failed(program: Path, status: int, said: str = "") -> HomeportError:
    """The error of a hook that ended with another status than 0."""
    what = f"the hook {program.name} ended with status {status}" + (f"; its last lines:\n{said}" if said else "")
    return HomeportError(what, str(program), "mend what it complains about, and try again", ExitCode.FAILED)


def variables(loaded: Loaded, verb: str) -> Variables:
    """What every hook is told, by environment variables."""
    config = loaded.config
    return told(config.app, loaded.destination or "", config.domains[0].name, loaded.host_address, verb)


def told(app: str, destination: str, domain: str, host: str, verb: str) -> Variables:
    """The same from its parts, as a playbook has them."""
    return {
        "HOMEPORT_APP": app,
        "HOMEPORT_DESTINATION": destination,
        "HOMEPORT_DOMAIN": domain,
        "HOMEPORT_HOST": host,
        "HOMEPORT_PERFORMER": who(),
        "HOMEPORT_VERB": verb,
    }


def of_result(result: Mapping[str, Any]) -> Variables:
    """What post-live is told besides: what is live now, and what was before it; "" for nothing."""
    return {
        "HOMEPORT_RELEASE": result["release"],
        "HOMEPORT_PREVIOUS": result["previous"] or "",
        "HOMEPORT_RESULT": result["result"],
        "HOMEPORT_SECONDS": f"{result['seconds']:g}",
        "HOMEPORT_URL": result["url"] or "",
    }


def of_failure(error: BaseException) -> Variables:
    """What post-failure is told besides, without any secret."""
    interrupted = isinstance(error, KeyboardInterrupt)
    code = error.code if isinstance(error, HomeportError) else ExitCode.INTERRUPTED if interrupted else ExitCode.FAILED
    what = "interrupted" if interrupted else redact.known()(str(error))
    return {"HOMEPORT_ERROR": what.replace("\0", "")[:LONGEST], "HOMEPORT_EXIT_CODE": str(int(code))}


def _tolerate(loaded: Loaded, name: str, verb: str, more: Mapping[str, str]) -> None:
    try:
        run(loaded, name, verb, more)
    except HomeportError as error:
        print("warning: " + " ".join(error.lines()), file=sys.stderr)
