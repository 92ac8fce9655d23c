"""The options that every verb has: the deploy.yml, the destination, and how much is printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from homeport.options import completion
from hostctl.common.names import matches

# the value of an option or argument: none, one word, or several
Value = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Options:
    """The options before or after the verb: `deploy -d prod push` and `deploy push -d prod` are the same."""

    config: Path | None = None
    destination: str | None = None
    quiet: bool = False
    verbose: bool = False


def path_or_none(text: str | None) -> Path | None:
    """The path that an option names; None if the option is not there."""
    return Path(text).expanduser() if text else None


def _checked_by(kind: str, expected: str) -> Callable[..., Any]:
    """The callback of an option or argument that refuses here what hostctl would refuse on the host."""

    def check(_: click.Context, __: click.Parameter, value: Value) -> Value:
        for each in (value,) if isinstance(value, str) else value or ():
            if each and not matches(kind, each):
                raise click.BadParameter(f"{each!r} is not {expected}")
        return value

    return check


a_release = _checked_by("reference", "a release id, the beginning of one, or a git commit")
a_transition = _checked_by("transition", "an id as deploy backup list shows it")
a_job = _checked_by("job", "the name of a job in deploy.yml")
an_accessory = _checked_by("accessory", "the name of an accessory, such as redis")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
a_line = _checked_by("line", "one line of at most 400 characters")
lock_wait = click.option(
    "--lock-wait",
    type=click.IntRange(0, 86_400),
    default=0,
    metavar="SECONDS",
    help="Wait so long for the lock, if somebody else holds it.",
)

allow_empty = click.option(
    "--allow-empty", is_flag=True, help="Start with an empty database if S3 cannot be asked for a backup."
)


def common(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb -c, -d and -q, and pass it `options`. An option after the verb overrides the one before it."""

    @click.option("-c", "--config", type=click.Path(dir_okay=False), help="The deploy.yml to use.")
    @click.option(
        "-d",
        "--destination",
        shell_complete=completion.destinations,
        help="Merge deploy.DESTINATION.yml over deploy.yml; 'sandbox' is built in.",
    )
    @click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
    @click.pass_context
    @wraps(verb)
    def called(ctx: click.Context, /, config: str | None, destination: str | None, quiet: bool, **rest: Any) -> Any:
        before = ctx.obj if isinstance(ctx.obj, Options) else Options()
        options = replace(
            before,
            config=path_or_none(config) or before.config,
            destination=destination or before.destination,
            quiet=quiet or before.quiet,
        )
        return verb(options=options, **rest)

    return called


def listing(epilog: str, lists: str) -> Callable[[Callable[[Options, bool], None]], click.Group]:
    """Make a group of verbs from a function that prints a list: the group without a verb calls it, and so does the verb
    `list`, whose help is `lists`. The help of the group is the function's docstring.
    """

    def grouped(show: Callable[[Options, bool], None]) -> click.Group:
        @click.group(epilog=epilog, help=show.__doc__, invoke_without_command=True)
        @as_json
        @common
        @click.pass_context
        def command(ctx: click.Context, options: Options, as_json: bool) -> None:
            ctx.obj = options
            if ctx.invoked_subcommand is None:
                show(options, as_json)

        command.command("list", help=lists)(as_json(common(show)))
        return command

    return grouped
