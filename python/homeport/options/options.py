"""The options every verb shares: which deploy.yml, which destination, how much is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from homeport.options import completion
from hostctl.common.names import matches

# what a person gave: nothing, a word, or several
Given = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Options:
    """What stands before or after the verb: `deploy -d prod push` and `deploy push -d prod` are the same."""

    config: Path | None = None
    destination: str | None = None
    quiet: bool = False
    verbose: bool = False


def path_or_none(text: str | None) -> Path | None:
    """The path that an option names, if it was given."""
    return Path(text).expanduser() if text else None


def _named(kind: str, meant: str) -> Callable[..., Any]:
    """An option's or argument's callback: what the host would refuse is refused before it is asked."""

    def check(_: click.Context, __: click.Parameter, value: Given) -> Given:
        for each in (value,) if isinstance(value, str) else value or ():
            if each and not matches(kind, each):
                raise click.BadParameter(f"{each!r} is not {meant}")
        return value

    return check


a_release = _named("reference", "a release id, the beginning of one, or a git commit")
a_transition = _named("transition", "an id as deploy backup list shows it")
a_job = _named("job", "a job's name as deploy.yml has it")
an_accessory = _named("accessory", "the name of an accessory, such as redis")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
a_line = _named("line", "one line of at most 400 characters")
lock_wait = click.option(
    "--lock-wait",
    type=click.IntRange(0, 86_400),
    default=0,
    metavar="SECONDS",
    help="Wait for somebody else's push to end.",
)

allow_empty = click.option(
    "--allow-empty", is_flag=True, help="Begin with an empty database where S3 cannot be asked for a backup."
)


def common(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb -c, -d and -q, and pass it `options`. Given in both places, the one after the verb counts."""

    @click.option("-c", "--config", type=click.Path(dir_okay=False), help="The deploy.yml to use.")
    @click.option(
        "-d",
        "--destination",
        shell_complete=completion.destinations,
        help="Merge deploy.DESTINATION.yml over it; 'sandbox' is built in.",
    )
    @click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
    @click.pass_context
    @wraps(verb)
    def called(ctx: click.Context, /, config: str | None, destination: str | None, quiet: bool, **rest: Any) -> Any:
        given = ctx.obj if isinstance(ctx.obj, Options) else Options()
        options = replace(
            given,
            config=path_or_none(config) or given.config,
            destination=destination or given.destination,
            quiet=quiet or given.quiet,
        )
        return verb(options=options, **rest)

    return called


def listing(epilog: str, lists: str) -> Callable[[Callable[[Options, bool], None]], click.Group]:
    """Make a group of verbs of a function that lists: its bare call does that, and so does `list`, whose help is
    `lists`. The group's own help is the function's docstring.
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
