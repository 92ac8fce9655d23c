"""deploy tunnel: forwards a local port to a port on the host."""

from __future__ import annotations

import click

from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy tunnel                     (to the live instance, for a dashboard that the edge does not serve)

  deploy tunnel 9090                (to the host's 127.0.0.1:9090)

  deploy tunnel --local 4040 9090
"""
_PORT = click.IntRange(1, 65535)


@click.command(epilog=EPILOG)
@click.argument("port", required=False, type=_PORT)
@click.option("--local", type=_PORT, metavar="PORT", help="The local port; default: the same number.")
@common
def command(options: Options, port: int | None, local: int | None) -> None:
    """Forward a local port to PORT of the host's loopback network, or to the live instance, until Ctrl-C.

    Only this machine can connect to the local port, and the host opens no port. Without PORT the tunnel leads to the
    instance that is live now, bypassing the edge. A LiveView such as LiveDashboard works there if `check_origin` of the
    endpoint allows "//localhost".
    """
    from homeport.remote import tunnel
    from homeport.remote.session import begin

    session = begin(options)
    forwarding = tunnel.instance(session, local) if port is None else tunnel.loopback(port, local)

    def on_open() -> None:
        # Plug.SSL redirects every other name to https
        print(
            f"http://localhost:{forwarding.port}" if port is None else f"{tunnel.LOCAL}:{forwarding.port}", flush=True
        )
        if not options.quiet:
            click.echo("open until Ctrl-C", err=True)

    tunnel.hold(session, forwarding, on_open)
