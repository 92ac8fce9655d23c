"""Other services that the app needs on its host: its own Redis, Valkey and Memcached, and units that packages bring.

Provisioning writes down which (accessories.json) and makes their units; here is what only the host knows: the port and
the password of each, made once and kept, so that a release that is rolled back to still finds it. Whatever listens
beyond the host itself is stopped again. What is no longer in deploy.yml runs on, until a person removes it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, sync_directory, write_atomic, write_json
from hostctl.common.names import matches, transition_id
from hostctl.core import audit, lock
from hostctl.core.lock import Flock
from hostctl.core.paths import App, Layout
from hostctl.host import credentials, listeners
from hostctl.host.host import Host
from hostctl.release import app_config, envfile, records

# what an app has an instance of to itself, and the scheme of its URL
OWN = {"redis": "redis", "valkey": "redis", "memcached": "memcached"}
PACKAGE = "package"
AUTH = "auth"  # the credential with the password, as the service reads it
REALM = "homeport"  # of the user whom Memcached knows
PORTS = range(19_000, 20_000)  # below those of the instances
PATIENCE = 15.0  # seconds until a service that was started listens
LOOK = 0.1  # seconds
LONGEST = 120.0  # seconds that systemd may take for a call
LISTED = "deploy accessory list"


class Accessory(NamedTuple):
    """One service. `wanted`: deploy.yml names it; otherwise it is left over. `files`: what was written for it."""

    name: str
    kind: str
    unit: str
    wanted: bool = True
    files: tuple[str, ...] = ()
    fingerprint: str = ""


# ---------------------------------------------------------------------------------------------- which there are


def wanted(app: App) -> list[Accessory]:
    """Those of deploy.yml, by name, as provisioning wrote them down. Raises HostError (usage) for anything else."""
    try:
        told = (read_json(_file(app)) or {}) if _file(app).exists() else {}
        return [_accessory(name, one) for name, one in sorted(told.items())]
    except (KeyError, TypeError, AttributeError) as error:
        what = f"accessories.json cannot be read: {type(error).__name__}"
        raise HostError(what, str(_file(app)), "deploy provision", USAGE) from None


def _accessory(name: str, told: Json) -> Accessory:
    files = tuple(sorted(str(one["dest"]) for one in told.get("files", ())))
    return Accessory(name, str(told["kind"]), str(told["unit"]), files=files, fingerprint=repr(sorted(told.items())))


def left_over(app: App) -> list[Accessory]:
    """Those that deploy.yml names no more, and nobody has removed."""
    known = {one.name for one in wanted(app)}
    return [_kept(app, name) for name in _names(app) if name not in known]


def _names(app: App) -> list[str]:
    """Every accessory that has a directory or a unit of its own."""
    prefix = app.helper_unit("accessory-").removesuffix(".service")
    units = [
        path.name.removeprefix(prefix).removesuffix(".service")
        for path in _units(app.layout).glob(f"{prefix}*.service")
    ]
    places = [path.name for path in _root(app).iterdir()] if _root(app).is_dir() else []
    return sorted(name for name in {*units, *places} if matches("accessory", name))


def _kept(app: App, name: str) -> Accessory:
    told = read_json(_made(app, name)) or {}
    unit = told.get("unit") or app.helper_unit(f"accessory-{name}")
    return Accessory(name, told.get("kind", "unknown"), unit, wanted=False, files=tuple(told.get("files", ())))


def every(app: App) -> list[Accessory]:
    """All there are, first those of deploy.yml. Raises HostError as `wanted`."""
    return wanted(app) + left_over(app)


def find(app: App, name: str) -> Accessory:
    """The accessory of that name. Raises HostError (usage)."""
    found = next((one for one in every(app) if one.name == name), None)
    if found is None:
        raise HostError(f"{app.name} has no accessory {name[:40]!r}", str(_file(app)), LISTED, USAGE)
    return found


def _file(app: App) -> Path:
    return app.config.with_name("accessories.json")


def _root(app: App) -> Path:
    return app.state / "accessories"


def _place(app: App, name: str) -> Path:
    return _root(app) / name


def _made(app: App, name: str) -> Path:
    return _place(app, name) / "made.json"


def _ours(app: App, one: Accessory) -> bool:
    """Whether it was started here first, rather than found running: what is somebody else's is not stopped."""
    return bool((read_json(_made(app, one.name)) or {}).get("ours", True))


def _units(layout: Layout) -> Path:
    return layout.root / "etc/systemd/system"


# ---------------------------------------------------------------------------------------------- for the app


def environment(app: App) -> dict[str, str]:
    """The variables by which the app finds its own services, with their passwords. Raises HostError."""
    return {variable(one.name): _url(app, one) for one in wanted(app) if one.kind in OWN}


def variables(app: App) -> set[str]:
    """The names in `environment`."""
    return {variable(one.name) for one in wanted(app) if one.kind in OWN}


def variable(name: str) -> str:
    """The variable that holds the URL of an accessory."""
    return f"{name.upper().replace('-', '_')}_URL"


def _url(app: App, one: Accessory) -> str:
    place = _place(app, one.name)
    try:
        password = credentials.read(place / f"{AUTH}.cred", AUTH).decode().split()[-1]
        port = _port(place)
    except FileNotFoundError:
        raise HostError(f"the accessory {one.name} was never made", str(place), "deploy provision", FAILED) from None
    return url(one.kind, app.name, password, port or 0)


def url(kind: str, app: str, password: str, port: int) -> str:
    """The URL of a service of that kind. Memcached knows a user in a realm, whose @ a URL has to quote."""
    user = quote(f"{app}@{REALM}", safe="") if kind == "memcached" else ""
    return f"{OWN[kind]}://{user}:{password}@127.0.0.1:{port}" + ("" if kind == "memcached" else "/0")


def secret(kind: str, password: str) -> bytes:
    """What the service itself reads: Redis a line of its configuration, others the password alone."""
    return (password if kind == "memcached" else f"requirepass {password}\n").encode()


# ---------------------------------------------------------------------------------------------- bringing them up


def start(app: App, host: Host) -> Json:
    """Bring up every accessory of deploy.yml as it is configured. Returns `changed`: whether anything was (re)started.

    Raises HostError, also for one that listens beyond the host itself: it is stopped again, unless it ran already.
    """
    started: list[str] = []
    refused: list[HostError] = []
    for one in wanted(app):
        try:
            started += [one.name] if _start(app, one, host) else []
        except HostError as error:  # the others are needed all the same
            refused.append(error)
    if refused:
        raise refused[0]
    return {"changed": bool(started), "started": started}


def _start(app: App, one: Accessory, host: Host) -> bool:
    _make(app, one)
    known = read_json(_made(app, one.name)) or {}
    ran, fingerprint = host.systemd.show(one.unit)[0].state == "active", _fingerprint(one, host)
    started_with = known.pop("fingerprint", None)
    if ran and started_with == fingerprint and not beyond(listens(one)):
        return False
    known.setdefault("ours", one.kind in OWN or not ran)
    # whatever comes of it: what runs then was not started with what was started last
    write_json(_made(app, one.name), known, 0o644)
    _systemctl("enable", "--quiet", one.unit)
    _systemctl("restart", one.unit)
    _wait(app, one, host)
    _refuse_exposed(app, one)
    write_json(_made(app, one.name), {**known, "fingerprint": fingerprint}, 0o644)
    return True


def _fingerprint(one: Accessory, host: Host) -> str:
    return hashlib.sha256(f"{one.fingerprint}\n{host.systemd.text(one.unit)}".encode()).hexdigest()


def _make(app: App, one: Accessory) -> None:
    """The directory of an accessory with what is made once. Raises HostError (usage) for one of another kind there."""
    place = _place(app, one.name)
    told = read_json(_made(app, one.name)) or {}
    if told.get("kind", one.kind) != one.kind:
        what = f"the accessory {one.name} holds the data of {told['kind']}, and deploy.yml wants {one.kind}"
        fix = f"give the new one another name, or take this one out, push, and: deploy accessory remove {one.name}"
        raise HostError(what, str(place), fix, USAGE)
    make_directory(_root(app), 0o755)
    make_directory(place, 0o755)
    if one.kind in OWN:
        _make_own(app, one, place)
    _put_aside(app, one.name, [path for path in told.get("files", ()) if path not in one.files])
    write_json(_made(app, one.name), {**told, "kind": one.kind, "unit": one.unit, "files": list(one.files)}, 0o644)


def _make_own(app: App, one: Accessory, place: Path) -> None:
    """A password, a port, and a directory for its data."""
    if not (place / f"{AUTH}.cred").exists():
        credentials.write(place / f"{AUTH}.cred", AUTH, secret(one.kind, secrets.token_hex(24)))
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
    """The user the app runs as, and its own services too: the first provisioning writes app.json after this."""
    return str((read_json(app.config) or {}).get("user") or app.name)


def _port(place: Path) -> int | None:
    try:
        return int(envfile.parse((place / "environment").read_text())["PORT"])
    except (OSError, ValueError, KeyError):
        return None


def free_port(taken: Collection[int]) -> int:
    """A port that no accessory of any app was given, and nobody listens on. Raises HostError when there is none."""
    for number in PORTS:
        if number not in taken and _usable(number):
            return number
    raise HostError("no port is free", f"{PORTS.start} to {PORTS.stop - 1}", "ss -ltn shows who has them", FAILED)


def _usable(number: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def _wait(app: App, one: Accessory, host: Host) -> None:
    """Until it listens on something. Raises HostError when its unit fails, and when an own service does not in time."""
    deadline = host.clock() + PATIENCE
    while not listens(one):
        unit = host.systemd.show(one.unit)[0]
        late = host.clock() >= deadline
        if late and unit.state == "active" and one.kind == PACKAGE:  # it need not listen at all
            return
        if not unit.runs or unit.restarts > 2 or late:
            said = host.systemd.journal(one.unit, 3).strip().replace("\n", "; ")[-400:]
            what = f"the accessory {one.name} does not come up: its unit is {unit.state}, and says: {said or 'nothing'}"
            raise HostError(what, one.unit, f"deploy accessory logs {one.name}", FAILED)
        host.sleep(LOOK)


def listens(one: Accessory) -> list[listeners.Socket]:
    """Where it listens now."""
    group = _systemctl("show", "--value", "--property=ControlGroup", one.unit).strip()
    return listeners.of_group(group) if group else []


def beyond(found: Collection[listeners.Socket]) -> list[str]:
    """Those that another machine can reach."""
    return [str(each) for each in found if each.is_public]


def _refuse_exposed(app: App, one: Accessory) -> None:
    if not (reached := beyond(listens(one))):
        return
    if stop := _ours(app, one):
        _systemctl("disable", "--now", "--quiet", one.unit)
    done = "it was stopped" if stop else "it ran before, and so it was left running"
    what = f"the accessory {one.name} listens on {' and '.join(reached)}, where other machines reach it; {done}"
    fix = f"have it listen on 127.0.0.1 (accessories.{one.name}.files brings its configuration), then deploy provision"
    raise HostError(what, one.unit, fix, USAGE)


# ---------------------------------------------------------------------------------------------- what is so


def told(app: App, host: Host) -> list[Json]:
    """Every accessory as it is now; sizes in bytes. No password. Raises HostError as `wanted`."""
    found = every(app)
    units = host.systemd.show(*(one.unit for one in found))
    return [_told(app, one, unit.state, unit.memory, unit.restarts) for one, unit in zip(found, units, strict=True)]


def _told(app: App, one: Accessory, state: str, memory: int | None, restarts: int) -> Json:
    found = listens(one) if state == "active" else []
    variables = [variable(one.name)] if one.kind in OWN else []
    return {
        "name": one.name,
        "kind": one.kind,
        "unit": one.unit,
        "state": state,
        "left_over": not one.wanted,
        "listens": [str(each) for each in found],
        "beyond": beyond(found),
        "variables": variables,
        "memory": memory,
        "restarts": restarts,
        "bytes": _bytes(_place(app, one.name)),
    }


def _bytes(place: Path) -> int:
    total = 0
    for directory, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):
                total += Path(directory, name).lstat().st_blocks * 512
    return total


# ---------------------------------------------------------------------------------------------- by a person's word


def restart(app: App, name: str, who: str, origin: str, host: Host) -> Json:
    """Restart one, and return it as it is then. Raises HostError (usage, locked)."""
    with _alone(app):
        one = find(app, name)
        _systemctl("restart", one.unit)
        _wait(app, one, host)
        _refuse_exposed(app, one)
        audit.note(app, who, origin, "accessory restart", name)
    return next(each for each in told(app, host) if each["name"] == name)


def remove(app: App, name: str, who: str, origin: str, host: Host) -> Json:
    """Take away one that deploy.yml names no more; its data goes aside. Returns where to.

    Raises HostError (usage) while deploy.yml names it, or the live release finds it in its environment; (locked).
    """
    with _alone(app):
        one = find(app, name)
        _refuse_needed(app, one)
        kept = take_away(app, one, host)
        audit.note(app, who, origin, "accessory remove", f"{name}: its data is in {kept}")
    return {"removed": name, "aside": str(kept) if kept else None, "unit": one.unit, "kind": one.kind}


def take_away(app: App, one: Accessory, host: Host) -> Path | None:
    """Stop it, move what it keeps aside, and forget its unit. Returns where to; None where it kept nothing.

    Killed at any instant, the same again does the rest: its directory and its unit tell that there is something to do.
    """
    _stop(app, one, host)
    _put_aside(app, one.name, one.files)
    kept = _set_aside(app, one.name)
    own = _units(app.layout) / app.helper_unit(f"accessory-{one.name}")
    if own.exists():
        own.unlink()
        sync_directory(own.parent)
        _systemctl("daemon-reload")
    return kept


def take_all_away(app: App, host: Host, keep_data: bool = False) -> None:
    """As `take_away` of every one: for an app that leaves the host. With `keep_data` they are stopped, and no more."""
    for one in every(app):
        _stop(app, one, host) if keep_data else take_away(app, one, host)


def _stop(app: App, one: Accessory, host: Host) -> None:
    """Now, and at the next boot; but not what ran before it was named, or what another app names as well."""
    others = [each for other in app.layout.apps() if other.name != app.name for each in wanted(other)]
    if _ours(app, one) and one.unit not in [each.unit for each in others]:
        host.systemd.stop(one.unit)
        with suppress(HostError):  # a unit whose file is gone already
            _systemctl("disable", "--quiet", one.unit)


def _refuse_needed(app: App, one: Accessory) -> None:
    if one.wanted:
        fix = f"take accessories.{one.name} out of deploy.yml, push, and then: deploy accessory remove {one.name}"
        raise HostError(f"deploy.yml names the accessory {one.name}", str(_file(app)), fix, USAGE)
    live = app.live()
    if live and f"@127.0.0.1:{_port(_place(app, one.name))}" in records.environment(app, live).get(
        variable(one.name), ""
    ):
        what = f"the live release {live} finds the accessory {one.name} in its environment"
        raise HostError(what, variable(one.name), "deploy push, which goes without it, and try again", USAGE)


def _set_aside(app: App, name: str) -> Path | None:
    """Move its directory to where `backup list` shows it and `backup forget` deletes it."""
    if not _place(app, name).exists():
        return None
    target = app.aside / transition_id() / f"accessory-{name}"
    make_directory(app.aside, 0o700)
    make_directory(target.parent, 0o700)
    _place(app, name).rename(target)
    sync_directory(target.parent)
    sync_directory(_root(app))
    return target


def _put_aside(app: App, name: str, paths: Collection[str]) -> None:
    """Files of a package's service that are not wanted any more: beside its data, under the names of their paths."""
    kept = _place(app, name) / "files"
    for path in paths:
        if (file := app.layout.root / path.lstrip("/")).is_file():
            make_directory(kept, 0o700)
            shutil.move(file, kept / path.strip("/").replace("/", "%"))


@contextmanager
def _alone(app: App) -> Iterator[None]:
    """No transition begins or runs meanwhile. Raises HostError (locked)."""
    app_config.load(app)
    try:
        with Flock(app.start_lock, wait=2):
            lock.wait_until_free(app, 0)
            yield
    except BlockingIOError:
        raise lock.refusal(app, lock.holder(app) or {"since": time.time()}) from None


def _systemctl(*words: str) -> str:
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, errors="replace", check=False, timeout=LONGEST
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        what = f"systemctl {words[0]} {words[-1]}: {said[0] if said else f'exit status {done.returncode}'}"
        raise HostError(what[:500], words[-1], f"journalctl -u {words[-1]} on the host tells why", FAILED)
    return done.stdout
