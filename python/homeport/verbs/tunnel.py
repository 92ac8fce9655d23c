"""deploy tunnel: a port of this machine that leads to one of the host's own."""

from __future__ import annotations

import click

from homeport.options.options import Options, common

EPILOG = """Examples:

  deploy tunnel                     (the live instance: a dashboard that the edge does not show)

  deploy tunnel 9090                (what listens on the host's 127.0.0.1:9090)

  deploy tunnel --local 4040 9090
"""
_PORT = click.IntRange(1, 65535)


@click.command(epilog=EPILOG)
@click.argument("port", required=False, type=_PORT)
@click.option("--local", type=_PORT, metavar="PORT", help="The port here, where the same number is not free.")
@common
def command(options: Options, port: int | None, local: int | None) -> None:
    """Open a way to PORT of the host's loopback network, or to the live instance, until Ctrl-C.

    Only this machine can use it, and nothing is opened on the host. Without PORT it leads to the instance that is live
    now, past the edge. A LiveView, as LiveDashboard is one, answers there if `check_origin` of the endpoint allows
    "//localhost".
    """
    from homeport.remote import tunnel
    from homeport.remote.session import begin

    session = begin(options)
    way = tunnel.instance(session, local) if port is None else tunnel.loopback(port, local)

    def told() -> None:
        # Plug.SSL sends every other name on to https
        print(f"http://localhost:{way.port}" if port is None else f"{tunnel.LOCAL}:{way.port}", flush=True)
        if not options.quiet:
            click.echo("open until Ctrl-C", err=True)

    tunnel.hold(session, way, told)
