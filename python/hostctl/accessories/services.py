"""Accessories: Redis, Valkey and Memcached instances of the app's own, and services of Debian packages.

Provisioning writes accessories.json and the units. This module makes the port and the password of each once and keeps
them, so that older releases find them too. A service that other machines can reach is stopped again. An accessory that
is no longer in deploy.yml runs on until it is removed (deploy accessory remove).
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import socket
import subprocess
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, cast
from urllib.parse import quote

from hostctl.common.documents import AccessoryStatus
from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, sync_directory, write_atomic, write_json
from hostctl.common.names import matches, transition_id
from hostctl.core import audit, lock
from hostctl.core.lock import Flock
from hostctl.core.paths import App, Layout
from hostctl.host import credentials, disk, listeners
from hostctl.host.host import Host
from hostctl.release import app_config, envfile, records

# the kinds of which an app has an instance of its own, and the scheme of their URLs
OWN = {"redis": "redis", "valkey": "redis", "memcached": "memcached"}
PACKAGE = "package"
AUTH = "auth"  # the credential with the password, as the service reads it
REALM = "homeport"  # of Memcached's user
PORTS = range(19_000, 20_000)  # below those of the instances
PATIENCE = 15.0  # seconds until a service that was started listens
LOOK = 0.1  # seconds between two checks
LONGEST = 120.0  # seconds for a call of systemctl
LISTED = "deploy accessory list"


class ConfigurationFile(TypedDict):
    """A configuration file of a package's service that provisioning writes."""

    dest: str


class AccessoryEntry(TypedDict):
    """An accessory in accessories.json; provisioning writes more keys, which only the fingerprint covers."""

    kind: str
    unit: str
    files: NotRequired[list[ConfigurationFile]]


class MadeAccessory(TypedDict, total=False):
    """The content of made.json: what this module has made for an accessory."""

    kind: str
    unit: str
    files: list[str]
    # Homeport started the service first
    ours: bool
    # of the configuration with which the service runs
    fingerprint: str


class Accessory(NamedTuple):
    """A service. `configured`: it is in deploy.yml; otherwise it is left over. `files`: what provisioning wrote."""

    name: str
    kind: str
    unit: str
    configured: bool = True
    files: tuple[str, ...] = ()
    fingerprint: str = ""


# ---------------------------------------------------------------------------------------------- the list


def configured(app: App) -> list[Accessory]:
    """The accessories of deploy.yml, sorted by name. Raises HostError (usage) when accessories.json is damaged."""
    try:
        entries = (read_json(_file(app)) or {}) if _file(app).exists() else {}
        return [_accessory(name, accessory) for name, accessory in sorted(entries.items())]
    except (KeyError, TypeError, AttributeError) as error:
        what = f"accessories.json cannot be read: {type(error).__name__}"
        raise HostError(what, str(_file(app)), "deploy provision", USAGE) from None


def _accessory(name: str, entry: AccessoryEntry) -> Accessory:
    files = tuple(sorted(str(file["dest"]) for file in entry.get("files", ())))
    return Accessory(name, str(entry["kind"]), str(entry["unit"]), files=files, fingerprint=repr(sorted(entry.items())))


def left_over(app: App) -> list[Accessory]:
    """The accessories that are no longer in deploy.yml and have not been removed."""
    known = {accessory.name for accessory in configured(app)}
    return [_left_over(app, name) for name in _names(app) if name not in known]


def _names(app: App) -> list[str]:
    """The names of all accessories with a directory or a unit of their own."""
    prefix = app.helper_unit("accessory-").removesuffix(".service")
    units = [
        path.name.removeprefix(prefix).removesuffix(".service")
        for path in _units(app.layout).glob(f"{prefix}*.service")
    ]
    places = [path.name for path in _root(app).iterdir()] if _root(app).is_dir() else []
    return sorted(name for name in {*units, *places} if matches("accessory", name))


def _left_over(app: App, name: str) -> Accessory:
    made = _read_made(app, name)
    unit = made.get("unit") or app.helper_unit(f"accessory-{name}")
    return Accessory(name, made.get("kind", "unknown"), unit, configured=False, files=tuple(made.get("files", ())))


def every(app: App) -> list[Accessory]:
    """All accessories, those of deploy.yml first. Raises HostError as `configured`."""
    return configured(app) + left_over(app)


def find(app: App, name: str) -> Accessory:
    """The accessory of that name. Raises HostError (usage)."""
    accessory = next((accessory for accessory in every(app) if accessory.name == name), None)
    if accessory is None:
        raise HostError(f"{app.name} has no accessory {name[:40]!r}", str(_file(app)), LISTED, USAGE)
    return accessory


def _file(app: App) -> Path:
    return app.config.with_name("accessories.json")


def _root(app: App) -> Path:
    return app.state / "accessories"


def _place(app: App, name: str) -> Path:
    return _root(app) / name


def _made(app: App, name: str) -> Path:
    return _place(app, name) / "made.json"


def _read_made(app: App, name: str) -> MadeAccessory:
    return cast("MadeAccessory", read_json(_made(app, name)) or {})


def _is_ours(app: App, accessory: Accessory) -> bool:
    """Whether Homeport started the service first. One that ran before is not stopped."""
    return _read_made(app, accessory.name).get("ours", True)


def _units(layout: Layout) -> Path:
    return layout.root / "etc/systemd/system"


# ---------------------------------------------------------------------------------------------- for the app


def environment(app: App) -> dict[str, str]:
    """The variables with the URLs of the app's own services, passwords included. Raises HostError."""
    return {variable(accessory.name): _url(app, accessory) for accessory in configured(app) if accessory.kind in OWN}


def variables(app: App) -> set[str]:
    """The names of the variables in `environment`."""
    return {variable(accessory.name) for accessory in configured(app) if accessory.kind in OWN}


def variable(name: str) -> str:
    """The variable that holds the URL of an accessory."""
    return f"{name.upper().replace('-', '_')}_URL"


def _url(app: App, accessory: Accessory) -> str:
    place = _place(app, accessory.name)
    try:
        password = credentials.read(place / f"{AUTH}.cred", AUTH).decode().split()[-1]
        port = _port(place)
    except FileNotFoundError:
        raise HostError(
            f"the accessory {accessory.name} was never made", str(place), "deploy provision", FAILED
        ) from None
    return url(accessory.kind, app.name, password, port or 0)


def url(kind: str, app: str, password: str, port: int) -> str:
    """The URL of a service. Memcached's user is user@realm, with its @ quoted."""
    user = quote(f"{app}@{REALM}", safe="") if kind == "memcached" else ""
    return f"{OWN[kind]}://{user}:{password}@127.0.0.1:{port}" + ("" if kind == "memcached" else "/0")


def secret(kind: str, password: str) -> bytes:
    """The content of the service's credential: for Redis a line of configuration, for Memcached the password."""
    return (password if kind == "memcached" else f"requirepass {password}\n").encode()


# ---------------------------------------------------------------------------------------------- start


def start(app: App, host: Host) -> Json:
    """Start or restart every accessory of deploy.yml whose configuration changed. Returns the names as `started`.

    Raises HostError, also for a service that other machines can reach: it is stopped again, unless it ran before.
    """
    started: list[str] = []
    refused: list[HostError] = []
    for accessory in configured(app):
        try:
            started += [accessory.name] if _start(app, accessory, host) else []
        except HostError as error:  # the app needs the others nevertheless
            refused.append(error)
    if refused:
        raise refused[0]
    return {"changed": bool(started), "started": started}


def _start(app: App, accessory: Accessory, host: Host) -> bool:
    _make(app, accessory)
    made = _read_made(app, accessory.name)
    ran, fingerprint = host.systemd.show(accessory.unit)[0].state == "active", _fingerprint(accessory, host)
    started_with = made.pop("fingerprint", None)
    if ran and started_with == fingerprint and not reachable(sockets(accessory)):
        return False
    made.setdefault("ours", accessory.kind in OWN or not ran)
    # without a fingerprint the next run starts it again, whatever happens here
    write_json(_made(app, accessory.name), made, 0o644)
    _systemctl("enable", "--quiet", accessory.unit)
    _systemctl("restart", accessory.unit)
    _wait_until_listening(app, accessory, host)
    _refuse_exposed(app, accessory)
    write_json(_made(app, accessory.name), {**made, "fingerprint": fingerprint}, 0o644)
    return True


def _fingerprint(accessory: Accessory, host: Host) -> str:
    return hashlib.sha256(f"{accessory.fingerprint}\n{host.systemd.text(accessory.unit)}".encode()).hexdigest()


def _make(app: App, accessory: Accessory) -> None:
    """Make the accessory's directory, port and password. Raises HostError (usage) for data of another kind there."""
    place = _place(app, accessory.name)
    made = _read_made(app, accessory.name)
    if made.get("kind", accessory.kind) != accessory.kind:
        what = f"the accessory {accessory.name} holds the data of {made['kind']}, and deploy.yml wants {accessory.kind}"
        fix = (
            f"give the new one another name, or take this one out, push, and: deploy accessory remove {accessory.name}"
        )
        raise HostError(what, str(place), fix, USAGE)
    make_directory(_root(app), 0o755)
    make_directory(place, 0o755)
    if accessory.kind in OWN:
        _make_own(app, accessory, place)
    _keep_files(app, accessory.name, [path for path in made.get("files", ()) if path not in accessory.files])
    write_json(
        _made(app, accessory.name),
        {**made, "kind": accessory.kind, "unit": accessory.unit, "files": list(accessory.files)},
        0o644,
    )


def _make_own(app: App, accessory: Accessory, place: Path) -> None:
    """Make a password, a port and a data directory, each only once."""
    if not (place / f"{AUTH}.cred").exists():
        credentials.write(place / f"{AUTH}.cred", AUTH, secret(accessory.kind, secrets.token_hex(24)))
    with Flock(app.layout.ports_lock, wait=10):
        if _port(place) is None:
            taken = {_port(path.parent) for path in app.layout.state.glob("*/accessories/*/environment")}
            number = free_port({port for port in taken if port is not None})
            write_atomic(place / "environment", envfile.render({"PORT": str(number)}).encode(), 0o644)
    data = place / "data"
    if not data.is_dir():
        make_directory(data, 0o700)
    shutil.chown(data, owner(app), owner(app))


def owner(app: App) -> str:
    """The user of the app and its services. The first provisioning calls this before it writes app.json."""
    return str((read_json(app.config) or {}).get("user") or app.name)


def _port(place: Path) -> int | None:
    try:
        return int(envfile.parse((place / "environment").read_text())["PORT"])
    except (OSError, ValueError, KeyError):
        return None


def free_port(taken: Collection[int]) -> int:
    """A port that no accessory of any app has and nothing listens on. Raises HostError when there is none."""
    for number in PORTS:
        if number not in taken and _usable(number):
            return number
    raise HostError(
        "no port is free", f"{PORTS.start} to {PORTS.stop - 1}", "ss -ltn lists the listening processes", FAILED
    )


def _usable(number: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def _wait_until_listening(app: App, accessory: Accessory, host: Host) -> None:
    """Return when the service listens. Raises HostError when its unit fails, or an own service is too slow."""
    deadline = host.clock() + PATIENCE
    while not sockets(accessory):
        unit = host.systemd.show(accessory.unit)[0]
        late = host.clock() >= deadline
        if late and unit.state == "active" and accessory.kind == PACKAGE:  # it may be a service that never listens
            return
        if not unit.runs or unit.restarts > 2 or late:
            lines = host.systemd.journal(accessory.unit, 3).strip().replace("\n", "; ")[-400:]
            what = f"the accessory {accessory.name} does not start: its unit is {unit.state}; "
            what += f"last lines: {lines or 'none'}"
            raise HostError(what, accessory.unit, f"deploy accessory logs {accessory.name}", FAILED)
        host.sleep(LOOK)


def sockets(accessory: Accessory) -> list[listeners.Socket]:
    """The sockets on which the service listens."""
    group = _systemctl("show", "--value", "--property=ControlGroup", accessory.unit).strip()
    return listeners.of_group(group) if group else []


def reachable(sockets: Collection[listeners.Socket]) -> list[str]:
    """The sockets that other machines can reach, as text."""
    return [str(each) for each in sockets if each.is_public]


def _refuse_exposed(app: App, accessory: Accessory) -> None:
    if not (reached := reachable(sockets(accessory))):
        return
    if stop := _is_ours(app, accessory):
        _systemctl("disable", "--now", "--quiet", accessory.unit)
    done = "it was stopped" if stop else "it ran before, so it was left running"
    what = f"the accessory {accessory.name} listens on {' and '.join(reached)}, where other machines reach it; {done}"
    fix = f"set it to listen on 127.0.0.1 (with accessories.{accessory.name}.files), then deploy provision"
    raise HostError(what, accessory.unit, fix, USAGE)


# ---------------------------------------------------------------------------------------------- status


def status(app: App, host: Host) -> list[AccessoryStatus]:
    """The state of every accessory, without passwords; sizes in bytes. Raises HostError as `configured`."""
    accessories = every(app)
    units = host.systemd.show(*(accessory.unit for accessory in accessories))
    return [
        _status(app, accessory, unit.state, unit.memory, unit.restarts)
        for accessory, unit in zip(accessories, units, strict=True)
    ]


def _status(app: App, accessory: Accessory, state: str, memory: int | None, restarts: int) -> AccessoryStatus:
    listening = sockets(accessory) if state == "active" else []
    variables = [variable(accessory.name)] if accessory.kind in OWN else []
    return {
        "name": accessory.name,
        "kind": accessory.kind,
        "unit": accessory.unit,
        "state": state,
        "left_over": not accessory.configured,
        "listens": [str(each) for each in listening],
        "beyond": reachable(listening),
        "variables": variables,
        "memory": memory,
        "restarts": restarts,
        "bytes": disk.used_space(_place(app, accessory.name)),
    }


# ---------------------------------------------------------------------------------------------- restart, remove


def restart(app: App, name: str, who: str, origin: str, host: Host) -> AccessoryStatus:
    """Restart an accessory. Returns its state afterwards. Raises HostError (usage, locked)."""
    app_config.load(app)
    with lock.exclusive(app):
        accessory = find(app, name)
        _systemctl("restart", accessory.unit)
        _wait_until_listening(app, accessory, host)
        _refuse_exposed(app, accessory)
        audit.note(app, who, origin, "accessory restart", name)
    return next(each for each in status(app, host) if each["name"] == name)


def remove(app: App, name: str, who: str, origin: str, host: Host) -> Json:
    """Remove an accessory that is no longer in deploy.yml; its data becomes kept data. Returns its place as `aside`.

    Raises HostError (usage) while it is in deploy.yml or in the environment of the live release; (locked).
    """
    app_config.load(app)
    with lock.exclusive(app):
        accessory = find(app, name)
        _refuse_needed(app, accessory)
        kept = uninstall(app, accessory, host)
        audit.note(app, who, origin, "accessory remove", f"{name}: its data is in {kept}")
    return {"removed": name, "aside": str(kept) if kept else None, "unit": accessory.unit, "kind": accessory.kind}


def uninstall(app: App, accessory: Accessory, host: Host) -> Path | None:
    """Stop an accessory, move its data to the kept data, and delete its unit. Returns the place of the data, if any.

    After a kill, a second call does the rest: as long as its directory or its unit exists, the accessory is listed.
    """
    _stop(app, accessory, host)
    _keep_files(app, accessory.name, accessory.files)
    kept = _keep_data(app, accessory.name)
    own = _units(app.layout) / app.helper_unit(f"accessory-{accessory.name}")
    if own.exists():
        own.unlink()
        sync_directory(own.parent)
        _systemctl("daemon-reload")
    return kept


def uninstall_all(app: App, host: Host, keep_data: bool = False) -> None:
    """Uninstall every accessory of an app that is removed. With `keep_data` they are only stopped."""
    for accessory in every(app):
        _stop(app, accessory, host) if keep_data else uninstall(app, accessory, host)


def _stop(app: App, accessory: Accessory, host: Host) -> None:
    """Stop and disable the service, unless it ran before Homeport or another app has it as well."""
    others = [each for other in app.layout.apps() if other.name != app.name for each in configured(other)]
    if _is_ours(app, accessory) and accessory.unit not in [each.unit for each in others]:
        host.systemd.stop(accessory.unit)
        with suppress(HostError):  # the unit file may be gone already
            _systemctl("disable", "--quiet", accessory.unit)


def _refuse_needed(app: App, accessory: Accessory) -> None:
    if accessory.configured:
        fix = (
            f"remove accessories.{accessory.name} from deploy.yml, push, then: deploy accessory remove {accessory.name}"
        )
        raise HostError(f"deploy.yml names the accessory {accessory.name}", str(_file(app)), fix, USAGE)
    live = app.live()
    if live and f"@127.0.0.1:{_port(_place(app, accessory.name))}" in records.environment(app, live).get(
        variable(accessory.name), ""
    ):
        what = f"the live release {live} has the accessory {accessory.name} in its environment"
        raise HostError(
            what, variable(accessory.name), "deploy push, which removes it from there, and try again", USAGE
        )


def _keep_data(app: App, name: str) -> Path | None:
    """Move its directory to the kept data, which `backup list` shows and `backup forget` deletes."""
    if not _place(app, name).exists():
        return None
    target = app.aside / transition_id() / f"accessory-{name}"
    make_directory(app.aside, 0o700)
    make_directory(target.parent, 0o700)
    _place(app, name).rename(target)
    sync_directory(target.parent)
    sync_directory(_root(app))
    return target


def _keep_files(app: App, name: str, paths: Collection[str]) -> None:
    """Move configuration files of a package's service beside its data, named after their paths."""
    kept = _place(app, name) / "files"
    for path in paths:
        if (file := app.layout.root / path.lstrip("/")).is_file():
            make_directory(kept, 0o700)
            shutil.move(file, kept / path.strip("/").replace("/", "%"))


def _systemctl(*words: str) -> str:
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, errors="replace", check=False, timeout=LONGEST
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        what = f"systemctl {words[0]} {words[-1]}: {lines[0] if lines else f'exit status {done.returncode}'}"
        raise HostError(what[:500], words[-1], f"on the host: journalctl -u {words[-1]}", FAILED)
    return done.stdout
