"""The reference of the verbs: the help of each, as `deploy VERB --help` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import click

from homeport.cli import VERBS, deploy

WIDTH = 100
HEAD = """\
# Verbs

What `deploy --help` and `deploy VERB --help` print. This page is generated: `bin/reference` writes it.

"""


def page() -> str:
    """The page, in Markdown."""
    return HEAD + "\n".join(_section(words, command) for words, command in commands())


def commands() -> Iterator[tuple[str, click.Command]]:
    """The command line itself, every verb, and the verbs of a verb, by the words that call them."""
    yield "deploy", deploy
    for verb in VERBS:
        command = deploy.get_command(click.Context(deploy), verb)
        assert command is not None  # noqa: S101 - VERBS are its own
        yield f"deploy {verb}", command
        if isinstance(command, click.Group):
            yield from ((f"deploy {verb} {name}", each) for name, each in command.commands.items())


def _section(words: str, command: click.Command) -> str:
    # click caches the help option with the names of the first context, which a test may have made
    command = copy(command)
    command._help_option = None
    context = click.Context(
        command, info_name=words, help_option_names=["-h", "--help"], terminal_width=WIDTH, max_content_width=WIDTH
    )
    level = "##" if words.count(" ") < 2 else "###"
    return f"{level} {words}\n\n```text\n{command.get_help(context)}\n```\n"
