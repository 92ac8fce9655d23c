"""deploy certs: the certificates of the app's names."""

from __future__ import annotations

import json

from homeport.core.errors import ExitCode, HomeportError
from homeport.options.options import Options, as_json, common, listing
from hostctl.common.documents import Json
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy certs

  deploy certs list --json | jq '.[] | {name, not_after}'

  deploy certs push           (your own certificates, from the files named in domains)

  deploy certs renew          (now; the old certificates are served until the new ones arrive)
"""


@listing(EPILOG, "List the certificate of each name: its issuer, when it expires, and when it was and will be renewed.")
def command(options: Options, as_json: bool) -> None:
    """List the certificates that the edge serves, or renew them now. Caddy renews them in time by itself.

    It cannot renew your own certificates: `deploy certs push` uploads newer ones.
    """
    _list(options, as_json)


def _list(options: Options, as_json: bool) -> None:
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    certificates = with_iso_times(begin(options).hostctl.call("certs", "list")["certificates"])
    print(json.dumps(certificates) if as_json else "\n".join(table(certificates)))


@command.command()
@as_json
@common
def renew(options: Options, as_json: bool) -> None:
    """Request new certificates for every name of the app, and wait until the edge serves them.

    The old certificates are served until then, and stay in use if the authority refuses. Idle keep-alive connections
    may be closed. Let's Encrypt issues at most five certificates a week for the same names.
    """
    from homeport.core.performer import performer_options
    from homeport.remote.long_jobs import follow
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen, host = Screen(quiet=options.quiet), session.hostctl
    started = host.call("certs", "renew", *performer_options())["started"]
    screen.begin("renew")
    result = follow(host, "renew", started, screen.note, verb="certs")
    screen.end("renew", ok=result["ok"])
    if not result["ok"]:
        what = f"not renewed, the old certificates stay in use: {'; '.join(result['found'])}"
        raise HomeportError(what, host.where, "deploy doctor", ExitCode.FAILED)
    _list(options, as_json)


@command.command()
@as_json
@common
def push(options: Options, as_json: bool) -> None:
    """Upload your own certificates to the host, from the files and secrets named in domains, and serve them.

    They are verified as a browser would, before the host is changed. No request is cut; idle keep-alive connections
    may be closed.
    """
    from homeport.core.performer import performer_options
    from homeport.plays.custom_certificates import check
    from homeport.remote.session import begin

    session = begin(options)
    own = check(session)
    if not own:
        raise HomeportError(
            "no name has a certificate of your own",
            f"{session.loaded.origin['domains']} domains",
            "set certificate and key of a name in deploy.yml",
            ExitCode.USAGE,
        )
    answer = session.hostctl.send("certs", {"certificates": own}, "push", *performer_options())
    if as_json:
        print(json.dumps(answer))
    elif not options.quiet:
        changed = ", ".join(answer["changed"])
        print(f"{changed} changed" if changed else "the host has these certificates already: nothing changed")


def table(certificates: list[Json]) -> list[str]:
    """The certificates as lines of columns."""
    return columns([("NAME", "ISSUER", "VALID UNTIL", "RENEWED", "NEXT"), *map(_row, certificates)])


def _row(certificate: Json) -> tuple[str, ...]:
    if certificate["issuer"] is None:
        return (
            certificate["name"],
            f"NONE: {certificate['refused'] or 'the authority has not answered yet'}",
            "",
            "",
            "",
        )
    renewal = "your own: deploy certs push" if certificate.get("own") else certificate["next_renewal"] or "-"
    return certificate["name"], certificate["issuer"], certificate["not_after"], certificate["renewed"] or "-", renewal
