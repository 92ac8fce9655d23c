"""deploy setup: sets up a new host, from its SSH key to the first release."""

from __future__ import annotations

import re
from pathlib import Path

import click

from homeport.options.options import Options, allow_empty, common

EPILOG = """Examples:

  deploy setup

  deploy setup --accept-host-key SHA256:uNiVztksCsDhcc0u9e8BrrQ2...      (without a terminal)

  deploy setup --repin                                        (the server was rebuilt and has a new key)
"""


def _a_fingerprint(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value and not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", value):
        raise click.BadParameter(f"{value!r} is not a fingerprint as ssh prints it: SHA256: and 43 characters")
    return value


@click.command(epilog=EPILOG)
@click.option(
    "--accept-host-key",
    metavar="SHA256:…",
    callback=_a_fingerprint,
    help="The expected fingerprint, from the provider's console.",
)
@click.option("--repin", is_flag=True, help="Replace the pinned key, after the server was rebuilt.")
@click.option(
    "--artifact",
    type=click.Path(exists=True, path_type=Path),
    help="A release that is built already: a directory or a tar file.",
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
    """Pin the host's SSH key, provision the host, and push for the first time. Safe to run again."""
    from homeport.deployment import preflight, provision, transition
    from homeport.remote import host_key
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen = Screen(quiet=options.quiet, verbose=options.verbose)
    if not no_push:
        # checked first: otherwise the push would refuse only after everything else is done
        preflight.environment(session.loaded, certain=artifact is None)
    host_key.pin(session.provision_target, accept_host_key, screen, repin=repin)
    provision.provision(session, screen, allow_empty=allow_empty)
    if not no_push:
        transition.push(session, artifact, 0, as_json=as_json)
