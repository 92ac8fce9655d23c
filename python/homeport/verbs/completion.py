"""deploy completion: shell completion of verbs, options, destinations and sandboxes."""

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
    """Print the script that lets a shell complete verbs, options, destinations and sandboxes.

    Completion never connects to the host, and imports only the verb that is being completed. It needs Bash 4.4 or
    newer.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has a class for each of SHELLS
    print(kind(ctx.find_root().command, {}, completion.PROGRAM, completion.VARIABLE).source())
