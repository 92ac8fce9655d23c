"""Runs a program or an expression on the host with this terminal and these pipes, and exits with its status."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from homeport.core.errors import HomeportError
from homeport.core.performer import performer_options
from homeport.ssh import connection

if TYPE_CHECKING:
    from homeport.remote.session import Session

# the words after the verb are the program's, options too
AS_TYPED = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def run(
    session: Session, verb: str, *, words: tuple[str, ...] = (), expression: str = "", detach: bool = False
) -> NoReturn:
    """Run the program or expression on the host, and exit with its status.

    It is sent on standard input, because sudo writes arguments into a log. Raises HomeportError if the host refuses it
    or cannot be reached.
    """
    request = {"verb": verb, "words": list(words), "expression": expression, "detach": detach}
    name = session.hostctl.send("shell", request, "ask")["id"]
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not detach
    args = ["--id", name, *(["--terminal"] if terminal else []), *performer_options()]
    attach(session, ["shell", "run", *args], f"deploy {verb}", terminal=terminal)


def attach(session: Session, args: list[str], verb: str, *, terminal: bool = False) -> NoReturn:
    """Run a verb of hostctl as a child process on this terminal, and exit with its status.

    Raises HomeportError if the connection fails.
    """
    command = connection.command(session.target, session.hostctl.command(*args), terminal=terminal)
    # SIGTERM must end the child as well, and with it the program on the host
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    done = subprocess.run(command, check=False)
    if done.returncode == connection.CONNECTION_FAILED:
        raise HomeportError("the connection to the host failed", str(session.target), f"run {verb} again")
    sys.exit(done.returncode)


def an_expression(_: click.Context, __: click.Parameter, value: str) -> str:
    """The callback of the argument EXPR: the expression, read from standard input for `-`."""
    text = sys.stdin.read() if value == "-" else value
    if not text.strip():
        raise click.BadParameter("there is no expression")
    return text
