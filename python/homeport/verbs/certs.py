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

  deploy certs push           (certificates of your own, from the files that domains names)

  deploy certs renew          (now, and without an outage: the old ones are served until the new are there)
"""


@listing(
    EPILOG, "List every name's certificate: who issued it, until when it is valid, when it was and will be renewed."
)
def command(options: Options, as_json: bool) -> None:
    """List the certificates that the edge serves, or have them renewed now. Caddy renews them by itself in time.

    But those of your own: `deploy certs push` brings newer ones.
    """
    _list(options, as_json)


def _list(options: Options, as_json: bool) -> None:
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    found = dated(begin(options).hostctl.call("certs", "list")["certificates"])
    print(json.dumps(found) if as_json else "\n".join(table(found)))


@command.command()
@as_json
@common
def renew(options: Options, as_json: bool) -> None:
    """Have new certificates issued for every name of the app, and wait until they are served.

    The old ones are served until then, and go on being served when the authority refuses. Idle connections that are
    kept open may be closed. Let's Encrypt issues at most five a week for the same names.
    """
    from homeport.core.performer import here, who
    from homeport.remote.long_jobs import follow
    from homeport.remote.session import begin
    from homeport.screen.screen import Screen

    session = begin(options)
    screen, host = Screen(quiet=options.quiet), session.hostctl
    started = host.call("certs", "renew", "--who", who(), "--from", here())["started"]
    screen.begin("renew")
    result = follow(host, "renew", started, screen.note, of="certs")
    screen.end("renew", ok=result["ok"])
    if not result["ok"]:
        what = f"not renewed, the old certificates are served on: {'; '.join(result['found'])}"
        raise HomeportError(what, host.where, "deploy doctor", ExitCode.FAILED)
    _list(options, as_json)


@command.command()
@as_json
@common
def push(options: Options, as_json: bool) -> None:
    """Bring certificates of your own to the host, from the files and secrets that domains names, and show them.

    They are looked at as a visitor will before the host is touched. No open connection is cut; idle ones that are kept
    open may be closed.
    """
    from homeport.core.performer import here, who
    from homeport.plays.custom_certificates import check
    from homeport.remote.session import begin

    session = begin(options)
    given = check(session)
    if not given:
        what = "no name has a certificate of your own"
        raise HomeportError(
            what,
            f"{session.loaded.origin['domains']} domains",
            "name certificate and key of one in deploy.yml",
            ExitCode.USAGE,
        )
    words = ("push", "--who", who(), "--from", here())
    told = session.hostctl.send("certs", {"certificates": given}, *words)
    if as_json:
        print(json.dumps(told))
    elif not options.quiet:
        print(
            f"{', '.join(told['changed'])} changed" if told["changed"] else "the host has them already: nothing changed"
        )


def table(certificates: list[Json]) -> list[str]:
    """The certificates as lines of columns."""
    return columns([("NAME", "ISSUER", "VALID UNTIL", "RENEWED", "NEXT"), *map(_row, certificates)])


def _row(one: Json) -> tuple[str, ...]:
    if one["issuer"] is None:
        return one["name"], f"NONE: {one['refused'] or 'the authority has not answered yet'}", "", "", ""
    following = "your own: deploy certs push" if one.get("own") else one["next_renewal"] or "-"
    return one["name"], one["issuer"], one["not_after"], one["renewed"] or "-", following
