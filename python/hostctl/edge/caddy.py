"""The edge's configuration: one snippet per app, joined into one file that Caddy loads.

What is on disk is the truth: a reboot serves it. A snippet that Caddy would refuse is found before it is written
(`check`), so that one app's mistake never takes down another. Caddy's program runs as Caddy's user here too: its
directories, with the socket that it is asked by, are that user's.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from hostctl.common.documents import Json
from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import write_atomic
from hostctl.host.boundary.users import command_as

SETTINGS = Path("/etc/homeport/edge")
CONFIG = Path("/etc/caddy/caddy.json")
CADDY = "/usr/local/bin/caddy"
USER, HOME = "caddy", "/var/lib/caddy"
ADMIN = "unix//run/caddy/admin.sock"
# how often Caddy looks whether a certificate is to be renewed: as often as a person who asked for it likes to wait
RENEW_INTERVAL = "30s"


def join(shared: Json, snippets: dict[str, Json]) -> Json:
    """Caddy's whole configuration: what all apps share, and each app's routes, policies and own certificates."""
    ordered = [snippets[app] for app in sorted(snippets)]
    server: Json = {"listen": [":443"], "routes": [route for one in ordered for route in one["routes"]]}
    policies = [policy for one in ordered for policy in one["policies"]]
    tls: Json = {"automation": {"renew_interval": RENEW_INTERVAL} | ({"policies": policies} if policies else {})}
    if files := {name: str(bundle(app, name)) for app in sorted(snippets) for name in custom_names(snippets[app])}:
        # one file for both, so that one rename changes both
        tls["certificates"] = {"load_files": [{"certificate": file, "key": file} for file in files.values()]}
        server["automatic_https"] = {"skip_certificates": sorted(files)}
    return {**shared, "apps": {"http": {"servers": {"edge": server}}, "tls": tls}}


def custom_names(snippet: Json) -> list[str]:
    """The names whose certificates are the team's own."""
    return list(snippet.get("own_certificates", []))


def bundle(app: str, name: str) -> Path:
    """The file with a name's own certificates and their key."""
    return SETTINGS / "certs" / app / f"{name}.pem"


def _read(path: Path) -> Json:
    try:
        found: Json = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read the edge's settings: {error}", str(path), "deploy provision", FAILED) from None
    return found


def _snippets(settings: Path) -> dict[str, Json]:
    return {path.stem: _read(path) for path in sorted((settings / "apps").glob("*.json"))}


def _render(config: Json) -> str:
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def command(*args: str) -> list[str]:
    """The command that runs Caddy's program as its own user."""
    return command_as(USER, [CADDY, *args])


def _caddy(*args: str) -> subprocess.CompletedProcess[str]:
    env = {"HOME": HOME, "XDG_CONFIG_HOME": f"{HOME}/config", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command(*args), env=env, capture_output=True, text=True, check=False, timeout=60)


def _validate(config: Json) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as candidate:
        candidate.write(_render(config))
        candidate.flush()
        os.fchmod(candidate.fileno(), 0o644)  # as the configuration itself, which Caddy's user reads
        done = _caddy("validate", "--config", candidate.name)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word from caddy"])[-1]
        raise HostError(
            f"Caddy refuses the edge's configuration: {last}", str(SETTINGS), "correct domains or acme in deploy.yml"
        )


def check(app: str, candidate: Path, settings: Path = SETTINGS) -> Json:
    """Validate `candidate` in the place of the app's snippet, beside those of all other apps.

    Raises HostError when Caddy would refuse it, or when a name of it belongs to another app already.
    """
    snippets = _snippets(settings)
    mine = _read(candidate)
    others = {name: snippet for name, snippet in snippets.items() if name != app}
    for name, snippet in others.items():
        if taken := hosts(snippet) & hosts(mine):
            raise HostError(
                f"{sorted(taken)[0]} is already answered by the app {name}",
                f"/etc/homeport/edge/apps/{name}.json",
                "choose another name in domains of deploy.yml",
                USAGE,
            )
    _validate(join(_read(settings / "shared.json"), {**others, app: mine}))
    return {"valid": True}


def hosts(snippet: Json) -> set[str]:
    """The names a snippet answers."""
    matches = [match for route in snippet["routes"] for match in route.get("match", [])]
    return {name for match in matches for name in match.get("host", [])}


def apply(settings: Path = SETTINGS, config: Path = CONFIG) -> Json:
    """Join the snippets, and load them when they differ from what is loaded. Returns {"changed": bool}."""
    snippets = _snippets(settings)
    wanted = join(_read(settings / "shared.json"), snippets)
    if changed := not (config.is_file() and config.read_text() == _render(wanted)):
        _put_in_force(wanted, config)
    _sweep(snippets)
    return {"changed": changed}


def _put_in_force(wanted: Json, config: Path) -> None:
    _validate(wanted)
    candidate = config.with_suffix(".next")
    write_atomic(candidate, _render(wanted).encode(), 0o644)
    # loaded first, put in place after: if Caddy refuses, a reboot still serves what it serves now
    if running():
        reload(candidate)
    candidate.rename(config)


def _sweep(snippets: dict[str, Json]) -> None:
    """Take away the keys of certificates that are no longer in force."""
    used = {bundle(app, name) for app, snippet in snippets.items() for name in custom_names(snippet)}
    for directory in (SETTINGS / "certs").glob("*"):
        for path in set(directory.iterdir()) - used:
            path.unlink()
        with suppress(OSError):
            directory.rmdir()  # when nothing is left in it


def running() -> bool:
    """Whether Caddy runs now."""
    done = subprocess.run(["systemctl", "is-active", "--quiet", "caddy.service"], check=False, timeout=30)
    return done.returncode == 0


def reload(config: Path, *, anew: bool = False) -> None:
    """Have Caddy take a configuration without a restart. Raises HostError when it refuses; what it has stays then.

    `anew`: also one that it has already, for what has changed in the files that it names.
    """
    done = _caddy("reload", "--config", str(config), "--address", ADMIN, *(["--force"] if anew else []))
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word from caddy"])[-1]
        raise HostError(f"Caddy did not take its new configuration: {last}", str(config), "journalctl -u caddy", FAILED)
