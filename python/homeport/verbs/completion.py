"""deploy completion: what makes the Tab key know the verbs, their options, destinations and sandboxes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from homeport.options import completion

EPILOG = """Examples:

  eval "$(deploy completion bash)"                                    (in ~/.bashrc)

  eval "$(deploy completion zsh)"                                     (in ~/.zshrc, after compinit)

  deploy completion fish > ~/.config/fish/completions/deploy.fish
"""

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what a shell has to read so that Tab completes verbs, options, destinations and sandboxes.

    The host is never asked, and a verb that is not being completed is not even loaded. Bash 4.4 or newer is needed.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - SHELLS are click's own
    print(kind(ctx.find_root().command, {}, completion.PROGRAM, completion.VARIABLE).source())
