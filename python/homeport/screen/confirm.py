"""Questions to a person before something that cannot be undone."""

from __future__ import annotations

import sys

import click

from homeport.core.errors import ExitCode, HomeportError


def confirm(text: str, yes: bool) -> None:
    """Ask a person to confirm, unless `yes`. Raises HomeportError (usage) without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise HomeportError(f"{text} There is no terminal to ask at", "", "add --yes", ExitCode.USAGE)
    click.confirm(f"{text} Go on?", abort=True, err=True)
