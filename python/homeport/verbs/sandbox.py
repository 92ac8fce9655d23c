"""deploy sandbox: local Debian hosts to rehearse on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeport.options import completion
from homeport.options.options import as_json
from hostctl.common.table import columns

if TYPE_CHECKING:
    from homeport.sandbox import Sandbox
    from homeport.sandbox.lifecycle import Report

# homeport.sandbox is imported where it is used, to keep `deploy --help` fast

_name = click.option(
    "--name", default="default", show_default=True, shell_complete=completion.sandboxes, help="Which sandbox."
)


EPILOG = """Examples:

  deploy sandbox up

  deploy -d sandbox setup                       (in the directory of any app with a deploy.yml)

  deploy sandbox up --name old --suite bookworm && deploy -d sandbox:old setup

  deploy sandbox reboot --hard                  (a power cut)

  deploy sandbox down
"""


@click.group("sandbox", epilog=EPILOG)
def command() -> None:
    """Run local Debian hosts to rehearse on, each with an S3 server and an ACME authority."""


@command.command("up")
@_name
@click.option("--suite", type=click.Choice(["trixie", "bookworm"]), default="trixie", show_default=True)
@click.option("--weed", type=click.Path(path_type=Path, exists=True, dir_okay=False), hidden=True)
@as_json
def up_command(name: str, suite: str, weed: Path | None, as_json: bool) -> None:
    """Start a sandbox, or show the one that is running."""
    from homeport.sandbox import up

    _print(up(name, suite, _reporter(click.get_current_context()), weed), as_json)


@command.command("down")
@_name
@click.option("--all", "every", is_flag=True, help="Remove all sandboxes of this machine.")
def down_command(name: str, every: bool) -> None:
    """Remove a sandbox completely; only the cached Debian tree stays."""
    from homeport.sandbox import down
    from homeport.sandbox.state import names

    for each in names() if every else [name]:
        gone = down(each, _reporter(click.get_current_context()))
        click.echo(f"sandbox {each} is removed" if gone else f"sandbox {each} is not up")


@command.command("status")
@_name
@as_json
def status_command(name: str, as_json: bool) -> None:
    """Show the addresses and the state of a sandbox. Exit status 0 only if it is up."""
    from homeport.sandbox import get

    sandbox = get(name)
    if sandbox is None:
        click.echo(json.dumps({"name": name, "state": "down"}) if as_json else f"sandbox {name} is not up")
        sys.exit(1)
    _print(sandbox, as_json)
    sys.exit(0 if sandbox.state == "up" else 1)


@command.command("list")
@as_json
def list_command(as_json: bool) -> None:
    """List the sandboxes of this machine."""
    from homeport.sandbox import all_sandboxes

    boxes = all_sandboxes()
    if as_json:
        click.echo(json.dumps([sandbox.as_dict() for sandbox in boxes], indent=2))
        return
    rows = columns([(sandbox.name, sandbox.state, sandbox.suite, sandbox.address) for sandbox in boxes])
    click.echo("\n".join(rows or ["no sandbox; start one: deploy sandbox up"]))


@command.command("ssh")
@_name
@click.argument("words", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
def ssh_command(name: str, words: tuple[str, ...]) -> None:
    """Open a root shell on the host, or run a command there."""
    from homeport.sandbox import running

    argv = running(name).ssh_argv(*(("--", *words) if words else ()))
    os.execvp(argv[0], argv)  # noqa: S606 - ssh takes over the terminal and gives its own exit status


@command.command("reboot")
@_name
@click.option("--hard", is_flag=True, help="Kill the host at once, as a power cut would.")
def reboot_command(name: str, hard: bool) -> None:
    """Reboot the host, and wait until SSH answers again."""
    from homeport.sandbox import reboot

    reboot(name, hard, _reporter(click.get_current_context()))
    click.echo(f"sandbox {name} is up again")


def _reporter(ctx: click.Context) -> Report:
    """A function that shows steps as lines on standard error, as every other verb does."""
    from homeport.options.options import Options
    from homeport.screen.screen import Screen

    options = ctx.obj if isinstance(ctx.obj, Options) else Options()
    screen = Screen(quiet=options.quiet, width=24)

    def report(step: str, seconds: float | None) -> None:
        screen.begin(step) if seconds is None else screen.end(step, seconds=seconds)

    return report


def _print(sandbox: Sandbox, as_json: bool) -> None:
    facts = sandbox.as_dict()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    rows = [*_flat(facts), ("shell", f"deploy sandbox ssh --name {sandbox.name}")]
    click.echo("\n".join(columns([(name, str(value)) for name, value in rows])))


def _flat(facts: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in facts.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows


def main() -> None:
    """Run the group without `deploy`, as the sandbox runs itself through sudo."""
    from homeport.core.errors import HomeportError

    try:
        command()
    except HomeportError as error:
        click.echo("\n".join(error.lines()), err=True)
        sys.exit(int(error.code))


if __name__ == "__main__":
    main()
