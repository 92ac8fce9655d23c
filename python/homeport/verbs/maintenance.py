"""deploy maintenance: shows visitors a maintenance page instead of the app."""

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
        raise click.BadParameter(f"{error}; --allow takes single addresses, IPv4 or IPv6") from None


@click.group(epilog=EPILOG)
def command() -> None:
    """Show visitors a maintenance page with status 503 instead of the app, until it is switched off.

    The page is deploy/maintenance.html beside deploy.yml, whose {{ message }} and {{ retry_after }} are filled in; by
    default a plain page. Health checks and the addresses of --allow still reach the app. Pushes and rollbacks work as
    usual. The page stays on across a reboot.
    """


@command.command()
@click.option("-m", "--message", default="", callback=a_line, help="A text for the page.")
@click.option(
    "--allow",
    multiple=True,
    metavar="IP",
    callback=_addresses,
    help="An address that still reaches the app; may be repeated.",
)
@click.option(
    "--retry-after",
    type=click.IntRange(1, 86_400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Retry-After: when browsers and search engines should try again.",
)
@as_json
@common
def on(options: Options, message: str, allow: list[str], retry_after: int, as_json: bool) -> None:
    """Show the page. If it is on already, replace the page, the message and the addresses.

    Requests in progress have ten seconds to end (drain_timeout, if that is shorter). Connections that are still open
    then, such as websockets and long polls, are closed.
    """
    from homeport.core.performer import performer_options
    from homeport.core.timestamps import with_iso_times
    from homeport.deployment.maintenance_page import page
    from homeport.remote.session import begin

    session = begin(options)
    spec: Json = {"page": page(session.loaded.root, message, retry_after), "message": message}
    spec |= {"allow": allow, "retry_after": retry_after}
    answer = session.hostctl.send("maintenance", spec, "on", *performer_options())
    if as_json:
        print(json.dumps(with_iso_times(answer)))
    elif not options.quiet:
        print("\n".join(on_lines(answer)))


@command.command()
@as_json
@common
def off(options: Options, as_json: bool) -> None:
    """Show the app again."""
    from homeport.core.performer import performer_options
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    answer = with_iso_times(begin(options).hostctl.call("maintenance", "off", *performer_options()))
    if as_json:
        print(json.dumps(answer))
    elif not options.quiet:
        before = answer["was"]
        print(
            f"visitors see the app again; the page was on since {before['since']}" if before else "it was off already"
        )


@command.command()
@as_json
@common
def status(options: Options, as_json: bool) -> None:
    """Show whether the page is on, since when, and which addresses still reach the app."""
    from homeport.core.timestamps import with_iso_times
    from homeport.remote.session import begin

    answer = with_iso_times(begin(options).hostctl.call("maintenance", "status"))
    print(json.dumps(answer) if as_json else line(answer["maintenance"]))


def line(maintenance: Json | None) -> str:
    """The state of the maintenance page, in one line."""
    if not maintenance:
        return "off: visitors see the app"
    message = f": {maintenance['message']}" if maintenance["message"] else ""
    passing = f"; {', '.join(maintenance['allow'])} pass" if maintenance["allow"] else ""
    return f"ON since {maintenance['since']} by {maintenance['who']}{message}{passing}; deploy maintenance off ends it"


def on_lines(answer: Json) -> list[str]:
    """The result of `deploy maintenance on`, as text."""
    lines = ["visitors see the page, with status 503; deploy maintenance off ends it"]
    if answer["closed"]:
        lines.append(f"{answer['closed']} connections that were still open were closed")
    if answer["open"]:
        lines.append(
            f"warning: {answer['open']} earlier connections stay open, because the instance cannot close them; "
            "deploy push ends them"
        )
    return lines
