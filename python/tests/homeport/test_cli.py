"""The command line itself: every verb explains itself, and mistakes end with exit status 2."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from homeport import sandbox
from homeport.cli import VERBS, deploy
from homeport.config import layers

DEPLOY = Path(sys.executable).with_name("deploy")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every verb, and the verbs of a verb, by the words that call it."""
    for verb in VERBS:
        command = deploy.get_command(click.Context(deploy), verb)
        assert command is not None
        yield verb, command
        if isinstance(command, click.Group):
            yield from ((f"{verb} {name}", each) for name, each in command.commands.items())


@pytest.mark.parametrize(("words", "command"), list(commands()), ids=[words for words, _ in commands()])
def test_every_verb_says_what_it_does(words: str, command: click.Command) -> None:
    assert command.help, words
    assert command.help.rstrip().endswith("."), words


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example_that_can_be_typed(verb: str) -> None:
    done = subprocess.run([DEPLOY, verb, "--help"], capture_output=True, text=True)
    examples = done.stdout.partition("Examples:")[2]

    assert done.returncode == 0
    assert [line for line in examples.splitlines() if line.strip().startswith("deploy ") and verb in line]


def test_the_help_of_deploy_lists_every_verb() -> None:
    shown = subprocess.run([DEPLOY, "--help"], capture_output=True, text=True).stdout

    assert [verb for verb in VERBS if f"\n  {verb} " not in shown] == []


@pytest.mark.parametrize(
    ("args", "said"),
    [(["pusj"], "Did you mean 'push'?"), (["deploy"], "Did you mean 'push'?"), (["push", "--no-such"], "--no-such")],
)
def test_a_mistyped_command_is_refused_with_exit_status_2(args: list[str], said: str) -> None:
    done = subprocess.run([DEPLOY, *args], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_destination_sandbox_is_the_one_that_sandbox_up_starts() -> None:
    assert layers.SANDBOX_NAME == sandbox.DEFAULT
