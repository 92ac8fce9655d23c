"""deploy setup: a new host, from its key to the first release."""

from __future__ import annotations

import re
from pathlib import Path

import click

from homeport.options.options import Options, allow_empty, common

EPILOG = """Examples:

  deploy setup

  deploy setup --accept-host-key SHA256:uNiVztksCsDhcc0u9e8BrrQ2...      (where there is no terminal)

  deploy setup --repin                                        (the server was rebuilt and shows a new key)
"""


def _a_fingerprint(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value and not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", value):
        raise click.BadParameter(f"{value!r} is no fingerprint as ssh prints it: SHA256: and 43 characters")
    return value


@click.command(epilog=EPILOG)
@click.option(
    "--accept-host-key",
    metavar="SHA256:…",
    callback=_a_fingerprint,
    help="The fingerprint to expect, from the provider's console.",
)
@click.option("--repin", is_flag=True, help="Forget the key pinned before: the server was rebuilt.")
@click.option(
    "--artifact", type=click.Path(exists=True, path_type=Path), help="A release built already: directory or tar."
)
@click.option("--no-push", is_flag=True, help="Stop before the first push.")
@allow_empty
@click.option("--json", "as_json", is_flag=True, help="Print the push's result as one JSON document.")
@common
def command(
    options: Options,
    accept_host_key: str | None,
    repin: bool,
    artifact: Path | None,
    no_push: bool,
    allow_empty: bool,
    as_json: bool,
) -> None:
    """Pin the host's key, provision it, and push for the first time. Safe to run again."""
    from homeport.deployment import preflight, provision, transition
    from homeport.remote import host_key
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen = Screen(quiet=options.quiet, verbose=options.verbose)
    if not no_push:
        # the push would refuse it, after everything else has been done
        preflight.environment(session.loaded, certain=artifact is None)
    host_key.pin(session.provision_target, accept_host_key, screen, repin=repin)
    provision.provision(session, screen, allow_empty=allow_empty)
    if not no_push:
        transition.push(session, artifact, 0, as_json=as_json)
