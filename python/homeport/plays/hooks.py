"""Hooks: the project's own programs in hooks_path, such as pre-push, run on the laptop before and after a verb."""

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
from homeport.core.performer import performer_name

# verb -> the hooks before it, in order; pre-migrate runs later, between the upload and the switch
BEFORE = {"push": ("pre-build", "pre-push"), "env": ("pre-push",)}
BEFORE_MIGRATIONS = "pre-migrate"
LONGEST = 4000  # characters of an error in a variable; Linux allows 128 KiB

STDERR = 2

Variables = dict[str, str]


@contextmanager
def run_around(loaded: Loaded, verb: str) -> Iterator[Variables]:
    """Run the hooks before the verb, then the block, then post-live; post-failure if the block raises.

    Yields the additional variables of both post-hooks, for the block to fill. A failing pre-hook stops the verb with
    exit code 1. A failing post-hook is only reported, because the release is live by then.
    """
    for name in BEFORE.get(verb, (f"pre-{verb}",)):
        run(loaded, name, verb)
    more: Variables = {}
    try:
        yield more
    except BaseException as error:
        _run_or_warn(loaded, "post-failure", verb, {**more, **failure_variables(error)})
        raise
    _run_or_warn(loaded, "post-live", verb, more)


def run(loaded: Loaded, name: str, verb: str, more: Mapping[str, str] | None = None) -> None:
    """Run a hook if its program exists. Raises HomeportError if it fails."""
    program = find(loaded.path(loaded.config.hooks_path), name)
    if program is None:
        return
    environ = {**os.environ, **variables(loaded, verb), **(more or {})}
    # standard output has the verb's result only
    done = subprocess.run([str(program)], cwd=loaded.root, env=environ, stdout=STDERR, check=False)
    if done.returncode != 0:
        raise hook_error(program, done.returncode)


def find(directory: Path, name: str) -> Path | None:
    """The program of a hook; None if there is none. Raises HomeportError (usage) if it is not executable."""
    program = directory / name
    if not program.is_file():
        return None
    if not os.access(program, os.X_OK):
        raise HomeportError(f"the hook {name} is not executable", str(program), f"chmod +x {program}", ExitCode.USAGE)
    return program


def hook_error(program: Path, status: int, output: str = "") -> HomeportError:
    """The error for a hook that failed with an exit status."""
    what = f"the hook {program.name} ended with status {status}" + (f"; its last lines:\n{output}" if output else "")
    return HomeportError(what, str(program), "correct what the hook reports, and try again", ExitCode.FAILED)


def variables(loaded: Loaded, verb: str) -> Variables:
    """The environment variables of every hook."""
    config = loaded.config
    return hook_variables(config.app, loaded.destination or "", config.domains[0].name, loaded.host_address, verb)


def hook_variables(app: str, destination: str, domain: str, host: str, verb: str) -> Variables:
    """As `variables`, from single values, which a playbook has."""
    return {
        "HOMEPORT_APP": app,
        "HOMEPORT_DESTINATION": destination,
        "HOMEPORT_DOMAIN": domain,
        "HOMEPORT_HOST": host,
        "HOMEPORT_PERFORMER": performer_name(),
        "HOMEPORT_VERB": verb,
    }


def result_variables(result: Mapping[str, Any]) -> Variables:
    """The additional variables of post-live: the live release, the previous one ("" for none), and the result."""
    return {
        "HOMEPORT_RELEASE": result["release"],
        "HOMEPORT_PREVIOUS": result["previous"] or "",
        "HOMEPORT_RESULT": result["result"],
        "HOMEPORT_SECONDS": f"{result['seconds']:g}",
        "HOMEPORT_URL": result["url"] or "",
    }


def failure_variables(error: BaseException) -> Variables:
    """The additional variables of post-failure: the redacted error and the exit code."""
    interrupted = isinstance(error, KeyboardInterrupt)
    code = error.code if isinstance(error, HomeportError) else ExitCode.INTERRUPTED if interrupted else ExitCode.FAILED
    what = "interrupted" if interrupted else redact.redactor()(str(error))
    return {"HOMEPORT_ERROR": what.replace("\0", "")[:LONGEST], "HOMEPORT_EXIT_CODE": str(int(code))}


def _run_or_warn(loaded: Loaded, name: str, verb: str, more: Mapping[str, str]) -> None:
    try:
        run(loaded, name, verb, more)
    except HomeportError as error:
        print("warning: " + " ".join(error.lines()), file=sys.stderr)
