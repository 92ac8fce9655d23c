"""Questions to a person before something that cannot be undone."""

from __future__ import annotations

import sys

import click

from homeport.core.errors import ExitCode, HomeportError


def sure(text: str, yes: bool) -> None:
    """Ask a person, unless told not to. Raises HomeportError where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise HomeportError(f"{text} There is no terminal to ask at", "", "add --yes", ExitCode.USAGE)
    click.confirm(f"{text} Go on?", abort=True, err=True)
