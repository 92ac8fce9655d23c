"""Runs commands on the laptop that print a secret, such as `op read …`, `pass show …`, `aws secretsmanager …`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping

from homeport.core.errors import ExitCode, HomeportError


def output(command: str, what: str, where: str, environ: Mapping[str, str]) -> str:
    """The output of the command without the newline at its end. `what` names the secret, for errors.

    The command has the terminal, if there is one, and may prompt. Raises HomeportError (usage) if it fails.
    """
    words = shlex.split(command)
    terminal = sys.stdin is not None and sys.stdin.isatty()
    try:
        # standard error goes to the terminal; errors do not repeat it, because it could hold a secret
        stdin = None if terminal else subprocess.DEVNULL
        done = subprocess.run(words, stdin=stdin, stdout=subprocess.PIPE, env=dict(environ), check=False)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _failure(f"the command for {what} cannot be run: {reason}", where, words[0]) from None
    if done.returncode != 0:
        raise _failure(f"the command for {what} ended with status {done.returncode}", where, words[0])
    return _text(done.stdout, what, where, words[0])


def _text(printed: bytes, what: str, where: str, program: str) -> str:
    try:
        text = printed.decode()
    except UnicodeDecodeError:
        raise _failure(f"the command for {what} prints text that is not UTF-8", where, program) from None
    if not (value := without_last_newline(text)):
        raise _failure(f"the command for {what} prints nothing", where, program)
    return value


def without_last_newline(text: str) -> str:
    """The text without one newline at its end; other newlines belong to the value."""
    return text.removesuffix("\n").removesuffix("\r")


def _failure(what: str, where: str, program: str) -> HomeportError:
    fix = f"run the command by hand, log in to {program} if it asks for that, or correct the command"
    return HomeportError(what, where, fix, ExitCode.USAGE)
