"""`hostctl APP shell ask|run`: a person's own program or expression, with the live release.

What is to run comes on standard input and is kept in a file that root alone can read: the arguments of sudo and of ssh
are written into logs.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from hostctl.common.errors import DONE, USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, unlink, write_json
from hostctl.common.names import transition_id
from hostctl.core import audit
from hostctl.core.paths import App
from hostctl.host import terminal
from hostctl.host.host import Host
from hostctl.instance import agent, console, observer, one_off
from hostctl.release import app_config

KEPT = 3600.0  # seconds after which nobody comes any more for what was asked
EXPRESSION = "HOMEPORT_EXPRESSION"
# the expression is not in the arguments, which every user of the host can read
EVAL = f'Code.eval_string(System.fetch_env!("{EXPRESSION}"), [], file: "eval")'
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ask(app: App, spec: Json) -> Json:
    """Keep what is to run, once it is known that it can. Raises HostError."""
    live = one_off.live_release(app)
    if spec["verb"] in ("run", "exec"):
        program(app, live, spec["words"])
    _sweep(app)
    name = transition_id()
    make_directory(_requests(app), 0o700)
    write_json(_requests(app) / f"{name}.json", spec, durable=False)
    return {"id": name, "release": live}


def _requests(app: App) -> Path:
    return app.state / "asked"


def _environment(app: App, name: str) -> Path:
    """The variables of what was asked, while it runs; systemd reads them as root."""
    return _requests(app) / f"{name}.cred"


def _sweep(app: App) -> None:
    for path in _requests(app).glob("*"):
        if path.stat().st_mtime < time.time() - KEPT:
            unlink(path)


def run(app: App, name: str, tty: bool, who: str, origin: str, host: Host) -> int:
    """Perform the request with this id; returns the exit status. Prints an error as lines of text for a person."""
    try:
        path = _requests(app) / f"{name}.json"
        spec = read_json(path)
        if spec is None:
            raise HostError(
                "there is no such request, or it was done already", str(path), "the deploy verb again", USAGE
            )
        unlink(path)
        audit.note(app, who, origin, spec["verb"], _audit_text(spec))
        return _do(app, name, spec, tty, host)
    except HostError as error:
        print(f"error: {error.what}\n  where: {error.where}\n  fix: {error.fix}", file=sys.stderr)
        return error.code


def _audit_text(spec: Json) -> str:
    """The text for the audit: the program only, because its arguments or an expression may hold a secret."""
    return str(spec["words"][0])[:200] if spec["words"] else ""


def _do(app: App, name: str, spec: Json, tty: bool, host: Host) -> int:
    live = one_off.live_release(app)
    if spec["verb"] == "rpc":
        instance = agent.find(app, live, host)
        return agent.rpc(instance, spec["expression"], sys.stdout.buffer, sys.stderr.buffer)
    if spec["verb"] == "console":
        return console.run(app, live, name, _environment(app, name), tty, host)
    if spec["verb"] == "observer":
        return observer.run(agent.find(app, live, host), sys.stdin.fileno(), sys.stdout.fileno())
    if spec["verb"] == "eval":
        own = app.tree(live) / "bin" / app_config.load(app)["release_name"]
        return _run(app, live, name, spec, [str(own), "eval", EVAL], tty, host)
    return _run(app, live, name, spec, program(app, live, spec["words"]), tty, host)


def program(app: App, live: str, words: list[str]) -> list[str]:
    """The words with the absolute path of the program. A path with a slash is relative to the release, or absolute; a
    name without one is a program of the host. Raises HostError (usage) if there is no such program.
    """
    first = words[0] if words else ""
    path = str(app.tree(live) / first) if "/" in first else shutil.which(first, path=PATH)
    if path is None or not os.access(path, os.X_OK) or not Path(path).is_file():
        fix = "name a program of the host, or a path in the release, such as bin/migrate"
        raise HostError(f"there is no program {first[:80]!r}", str(app.tree(live)), fix, USAGE)
    # systemd expands variables in the arguments of a command unless each dollar is doubled
    return [path, *(word.replace("$", "$$") for word in words[1:])]


def unit(app: App, name: str) -> str:
    """The unit in which the program of a request runs."""
    return app.helper_unit(f"run-{name}")


def _run(app: App, live: str, name: str, spec: Json, argv: list[str], tty: bool, host: Host) -> int:
    """Run the command in a unit of its own until it ends; with `detach`, only until it has started."""
    environment = _environment(app, name)
    more = {EXPRESSION: spec["expression"]} if spec["verb"] == "eval" else {}
    one_off.write_environment(app, live, environment, f"run-{name}", more)
    try:
        properties = ["Type=exec", *one_off.properties(app, live, f"run-{name}", environment, host)]
        if spec["verb"] == "exec":
            # the same private /tmp as the instance's
            properties.append(f"JoinsNamespaceOf={app.unit(live)}")
        command = one_off.command(argv)
        if not spec["detach"]:
            return terminal.foreground(unit(app, name), command, properties, tty, host)
        host.systemd.background(unit(app, name), command, properties, wait=True)
        print(f"{unit(app, name)} runs; deploy logs run shows what it writes")
        return DONE
    finally:
        unlink(environment)
