"""Shell completion of destinations and sandboxes. Imports nothing slow, because a person waits at every Tab."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.shell_completion import BashComplete, split_arg_string

if TYPE_CHECKING:
    import click

# the name of the command, and the variable by which a shell asks it for completions
PROGRAM, VARIABLE = "deploy", "_DEPLOY_COMPLETE"
FILE = "deploy.yml"
SANDBOX = "sandbox"
SANDBOXES = Path("/var/lib/homeport-sandbox")
# deploy.yml and deploy.secrets.staging.yml name no destination
DESTINATION = r"{stem}\.(?!secrets\.)([a-z0-9][a-z0-9_-]{{0,40}}){suffix}"

# bash ends a word at a colon: the words are split from the line instead, and the part up to the colon is not repeated
BASH = r"""
%(complete_func)s() {
    local IFS=$'\n' response line type value typed
    line="${COMP_LINE:0:COMP_POINT}"
    typed="${line##*[[:space:]]}"
    [[ "$typed" == *:* && "$COMP_WORDBREAKS" == *:* ]] && typed="${typed%%:*}:" || typed=""
    response=$(env COMP_WORDS="$line" %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$typed"}") ;;
        esac
    done <<< "$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completion for bash that also completes words with a colon."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        new_word = not words or line[-1:].isspace()
        return (words, "") if new_word else (words[:-1], words[-1])


def destinations(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The values of -d: the destinations with a file beside deploy.yml, and the sandboxes of this machine."""
    known = [*_destinations_with_file(ctx), SANDBOX, *(f"{SANDBOX}:{name}" for name in _sandboxes())]
    return [name for name in dict.fromkeys(known) if name.startswith(incomplete)]


def sandboxes(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The names of the sandboxes of this machine."""
    return [name for name in _sandboxes() if name.startswith(incomplete)]


def _sandboxes() -> list[str]:
    try:
        return sorted(entry.name for entry in SANDBOXES.iterdir() if entry.is_dir())
    except OSError:
        return []


def _destinations_with_file(ctx: click.Context) -> list[str]:
    base = _base(ctx)
    if base is None:
        return []
    pattern = DESTINATION.format(stem=re.escape(base.stem), suffix=re.escape(base.suffix))
    try:
        names = sorted(entry.name for entry in base.parent.iterdir())
    except OSError:
        return []
    matches = (re.fullmatch(pattern, name) for name in names)
    return [match[1] for match in matches if match and match[1] != "secrets"]


def _base(ctx: click.Context) -> Path | None:
    """The deploy.yml that the command line names, else the nearest one in the current directory or above it."""
    for config in _configs(ctx):
        return Path(config).expanduser()
    current = Path.cwd()
    return next((folder / FILE for folder in (current, *current.parents) if (folder / FILE).is_file()), None)


def _configs(ctx: click.Context | None) -> Iterator[Any]:
    while ctx is not None:
        if ctx.params.get("config"):
            yield ctx.params["config"]
        ctx = ctx.parent
