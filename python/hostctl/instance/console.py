"""IEx in the live instance: a node of its own, made for one person, to which the instance connects.

Its cookie is new, and is nowhere but in a file that the app's user alone can read. It listens on an address of the
loopback network that is drawn for it, so that several can be open.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import remove_tree, unlink
from hostctl.core.paths import App
from hostctl.host import terminal
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User
from hostctl.host.host import Host
from hostctl.instance import agent, one_off
from hostctl.release import confinement
from hostctl.release.envfile import DIST_PORT

PATIENCE = 15.0  # seconds until it must listen
FRESH = 60.0  # seconds in which a home may not have its unit yet


def run(app: App, live: str, name: str, environment: Path, tty: bool, host: Host) -> int:
    """Until the person leaves; returns the exit status. Raises HostError.

    `environment` is a file in a directory of root's, which holds the node's variables meanwhile.
    """
    if not tty:
        fix = "run it in a terminal; deploy rpc EXPR asks one thing"
        raise HostError("a console needs a terminal", "standard input", fix, USAGE)
    instance, address = agent.find(app, live, host), loopback()
    node = agent.node(instance)
    peer, cookie = f"console-{secrets.token_hex(4)}@{address}", secrets.token_hex(32)
    # the unit's own runtime directory: systemd removes it with the unit, whatever becomes of this process
    home = agent.folder(app) / f"run-{name}"
    try:
        sweep(app, host)
        _prepare(home, instance.user, cookie)
        connecting = agent.start_connecting(instance, peer, cookie, PATIENCE)
        try:
            _write_environment(app, live, home, name, environment, node)
            properties = ["Type=exec", *one_off.properties(app, live, f"run-{name}", environment, host)]
            properties.append(f"SocketBindAllow={confinement.CONSOLE_PORT}")
            argv = command(app.tree(live), peer, address, home)
            unit = app.helper_unit(f"run-{name}")
            return terminal.foreground(unit, one_off.command(argv), properties, True, host)
        finally:
            connecting.end()
    finally:
        remove_tree(home)
        unlink(environment)


def sweep(app: App, host: Host) -> None:
    """Remove the homes of consoles that were killed before they had a unit."""
    for home in agent.folder(app).glob("run-*"):
        with contextlib.suppress(FileNotFoundError):  # its unit has ended meanwhile
            old = home.stat().st_mtime < time.time() - FRESH
            if old and not host.systemd.show(app.helper_unit(home.name))[0].runs:
                remove_tree(home)


def loopback() -> str:
    """An address of 127.0.0.0/8 that nobody else has, but for a chance in millions."""
    return "127." + ".".join(str(1 + secrets.randbelow(254)) for _ in range(3))


def command(tree: Path, peer: str, address: str, home: Path) -> list[str]:
    """The node's own runtime is the release's; IEx, which completes words here, is the release's too."""
    runtime, version = (tree / "releases/start_erl.data").read_text().split()
    code = [str(path) for name in ("elixir", "iex", "logger") for path in sorted(tree.glob(f"lib/{name}-*/ebin"))]
    # until OTP 25 (erts 13) what reads for a node without a shell would quarrel with the terminal; from 26 on it is it
    silent = "-noinput" if int(runtime.partition(".")[0]) < 14 else "-noshell"
    return [
        *(str(tree / f"erts-{runtime}/bin/erl"), silent, "-hidden", "-name", peer, "-mode", "interactive"),
        *("-boot", str(tree / "releases" / version / "start_clean"), "-boot_var", "RELEASE_LIB", str(tree / "lib")),
        *("-kernel", "inet_dist_use_interface", "{" + address.replace(".", ",") + "}"),
        *("-start_epmd", "false", "-erl_epmd_port", str(DIST_PORT), "-pa", *code),
        *("-eval", f'file:eval("{home}/console.erl").'),
    ]


def _prepare(home: Path, user: User, cookie: str) -> None:
    """A home for the node, in which Erlang looks for its cookie."""
    with Directory(home.parent) as homes:
        homes.make(home.name)
        for name, text in ((".erlang.cookie", cookie), ("console.erl", agent.source("console.erl"))):
            homes.write(f"{home.name}/{name}", text.encode(), user, 0o400)
        homes.give(home.name, user)  # last: until now nobody but root could put anything there


def _write_environment(app: App, live: str, home: Path, name: str, path: Path, instance: str) -> None:
    # the instance's flags are not this node's, which listens
    more = {"HOME": str(home), "HOMEPORT_LIVE": instance, "ERL_ZFLAGS": "", "ERL_AFLAGS": "", "ERL_FLAGS": ""}
    one_off.write_environment(app, live, path, f"run-{name}", more)
