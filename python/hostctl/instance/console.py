"""IEx in the live instance: a node of its own, made for one person, to which the instance connects.

Its cookie is new, and is nowhere but in a file that the app's user alone can read. It listens on an address of the
loopback network that is drawn for it, so that several can be open.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import threading
import time
from pathlib import Path

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import remove_tree
from hostctl.core.paths import App
from hostctl.host import terminal
from hostctl.host.host import Host
from hostctl.instance import agent, one_off
from hostctl.release import app_config
from hostctl.release.envfile import DIST_PORT

KNOCK = 0.05  # seconds between two tries while the node starts
PATIENCE = 15.0  # seconds until it must listen
FRESH = 60.0  # seconds in which a home may not have its unit yet


def run(app: App, live: str, name: str, tty: bool, host: Host) -> int:
    """Until the person leaves; returns the exit status. Raises HostError."""
    if not tty:
        fix = "run it in a terminal; deploy rpc EXPR asks one thing"
        raise HostError("a console needs a terminal", "standard input", fix, USAGE)
    instance, address = agent.node(app, live), loopback()
    peer, cookie = f"console-{secrets.token_hex(4)}@{address}", secrets.token_hex(32)
    # the unit's own runtime directory: systemd removes it with the unit, whatever becomes of this process
    home = _homes(app) / f"run-{name}"
    try:
        sweep(app, host)
        _prepare(home, app_config.load(app)["user"], cookie)
        over = threading.Event()
        threading.Thread(target=_knock, args=(app, live, peer, cookie, over), daemon=True).start()
        try:
            environment = _environment(app, live, home, name, instance)
            properties = ["Type=exec", *one_off.properties(app, live, f"run-{name}", environment, host)]
            argv = command(app.tree(live), peer, address, home)
            unit = app.helper_unit(f"run-{name}")
            return terminal.foreground(unit, one_off.command(argv), properties, True, host)
        finally:
            over.set()
    finally:
        remove_tree(home)


def sweep(app: App, host: Host) -> None:
    """Remove the homes of consoles that were killed before they had a unit."""
    for home in _homes(app).glob("run-*"):
        with contextlib.suppress(FileNotFoundError):  # its unit has ended meanwhile
            old = home.stat().st_mtime < time.time() - FRESH
            if old and not host.systemd.show(app.helper_unit(home.name))[0].runs:
                remove_tree(home)


def _homes(app: App) -> Path:
    return app.layout.root / f"run/homeport-{app.name}"


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


def _prepare(home: Path, user: str, cookie: str) -> None:
    """A home for the node, in which Erlang looks for its cookie."""
    owner = pwd.getpwnam(user)
    home.mkdir(mode=0o700)
    for name, text in ((".erlang.cookie", cookie), ("console.erl", agent.source("console.erl"))):
        handle = os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            os.fchown(handle, owner.pw_uid, owner.pw_gid)
    os.chown(home, owner.pw_uid, owner.pw_gid)


def _environment(app: App, live: str, home: Path, name: str, instance: str) -> Path:
    path = home / "environment.cred"
    # the instance's flags are not this node's, which listens
    more = {"HOME": str(home), "HOMEPORT_LIVE": instance, "ERL_ZFLAGS": "", "ERL_AFLAGS": "", "ERL_FLAGS": ""}
    one_off.write_environment(app, live, path, f"run-{name}", more)
    return path


def _knock(app: App, live: str, peer: str, cookie: str, over: threading.Event) -> None:
    for _ in range(int(PATIENCE / KNOCK)):
        try:
            if over.wait(KNOCK) or agent.connect(app, live, peer, cookie):
                return
        except HostError:  # the console itself says so
            return
