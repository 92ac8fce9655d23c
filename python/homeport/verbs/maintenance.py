"""deploy maintenance: a page in the place of the app, for a while."""

from __future__ import annotations

import json

import click

from homeport.options.options import Options, a_line, as_json, common
from hostctl.common.documents import Json

EPILOG = """Examples:

  deploy maintenance on

  deploy maintenance on -m "Back at about 14:00 UTC." --allow 198.51.100.9

  deploy maintenance status

  deploy maintenance off
"""


def _addresses(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[str]:
    from homeport.deployment.maintenance_page import address

    try:
        return list(dict.fromkeys(address(value) for value in values))
    except ValueError as error:
        raise click.BadParameter(f"{error}; it takes single addresses, IPv4 or IPv6") from None


@click.group(epilog=EPILOG)
def command() -> None:
    """Show visitors a page in the place of the app, with status 503, until it is switched off; also over a reboot.

    The page is deploy/maintenance.html beside deploy.yml, whose {{ message }} and {{ retry_after }} are filled in, or a
    plain one. Health checks pass, and so do addresses that are named; pushes and rollbacks go on.
    """


@command.command()
@click.option("-m", "--message", default="", callback=a_line, help="What the page says.")
@click.option("--allow", multiple=True, metavar="IP", callback=_addresses, help="Who sees the app; may be repeated.")
@click.option(
    "--retry-after",
    type=click.IntRange(1, 86_400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="When browsers and search engines are to come again.",
)
@as_json
@common
def on(options: Options, message: str, allow: list[str], retry_after: int, as_json: bool) -> None:
    """Show the page. Once more it changes the page, the message and the addresses.

    Requests in progress get ten seconds to end (drain_timeout, if that is shorter). What is still open then is closed:
    websockets and long polls.
    """
    from homeport.core.performer import here, who
    from homeport.core.timestamps import dated
    from homeport.deployment.maintenance_page import page
    from homeport.remote.session import begin

    session = begin(options)
    spec: Json = {"page": page(session.loaded.root, message, retry_after), "message": message}
    spec |= {"allow": allow, "retry_after": retry_after}
    told = session.hostctl.send("maintenance", spec, "on", "--who", who(), "--from", here())
    if as_json:
        print(json.dumps(dated(told)))
    elif not options.quiet:
        print("\n".join(shown(told)))


@command.command()
@as_json
@common
def off(options: Options, as_json: bool) -> None:
    """Show the app again."""
    from homeport.core.performer import here, who
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    told = dated(begin(options).hostctl.call("maintenance", "off", "--who", who(), "--from", here()))
    if as_json:
        print(json.dumps(told))
    elif not options.quiet:
        was = told["was"]
        print(f"visitors see the app again; the page was shown since {was['since']}" if was else "it was off already")


@command.command()
@as_json
@common
def status(options: Options, as_json: bool) -> None:
    """Say whether the page is shown, since when, and who sees the app nevertheless."""
    from homeport.core.timestamps import dated
    from homeport.remote.session import begin

    told = dated(begin(options).hostctl.call("maintenance", "status"))
    print(json.dumps(told) if as_json else line(told["maintenance"]))


def line(maintenance: Json | None) -> str:
    """What is so, in a line."""
    if not maintenance:
        return "off: visitors see the app"
    said = f": {maintenance['message']}" if maintenance["message"] else ""
    passing = f"; {', '.join(maintenance['allow'])} pass" if maintenance["allow"] else ""
    return f"ON since {maintenance['since']} by {maintenance['who']}{said}{passing}; deploy maintenance off ends it"


def shown(told: Json) -> list[str]:
    """What switching on came to."""
    lines = ["visitors see the page, with status 503; deploy maintenance off ends it"]
    if told["closed"]:
        lines.append(f"{told['closed']} connections that were still open were closed")
    if told["open"]:
        open_still = (
            f"warning: {told['open']} connections from before stay open: their instance cannot be asked to close"
        )
        lines.append(f"{open_still} them; deploy push ends them")
    return lines
