"""The team's own certificates: checks them, installs them, and has the edge present them.

A name's certificates and their key are one file, so that one rename changes both. Caddy must read the key at every
start, even when nothing can be decrypted yet: it is stored like Caddy's own keys, readable by root and Caddy alone.
"""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, write_atomic
from hostctl.common.names import matches
from hostctl.common.net import certificate, tls
from hostctl.core import schema
from hostctl.edge import caddy
from hostctl.host.host import Host

LARGEST = 256 << 10  # characters
# seconds until the edge shows what it was given: it takes it before `reload` returns
PATIENCE = 5.0
LOOK = 0.2  # seconds
GROUP = "caddy"


def _pem(value: Any) -> bool:
    return schema.text(value) and len(value) <= LARGEST


def _of_names(value: Any) -> bool:
    one = {"certificate": _pem, "key": schema.either(_pem, None)}
    return isinstance(value, dict) and all(
        matches("domain", name) and not schema.mistakes(one, told) for name, told in value.items()
    )


SPEC = {"certificates": _of_names}


def put(app: str, given: Mapping[str, Json], host: Host) -> Json:
    """Put the certificates of these names in force: each with its key, or with the one that the host has.

    All are checked before one is changed. Returns {"changed": names}. Raises HostError; the former ones are shown then.
    """
    _refuse_others(app, given)
    try:
        return _put(app, given, host)
    finally:
        for name in given:
            _candidate(app, name).unlink(missing_ok=True)


def _put(app: str, given: Mapping[str, Json], host: Host) -> Json:
    candidates = {name: _proven(app, name, told) for name, told in given.items()}
    former = {name: _bytes(caddy.bundle(app, name)) for name in given}
    changed = {name for name, path in candidates.items() if path.read_bytes() != former[name]}
    for name, path in candidates.items():
        path.replace(caddy.bundle(app, name))
    # also what a killed run has put there and not brought to the edge
    stale = {name for name in _in_force(app) & set(given) if not _shown(app, name)} if caddy.running() else set()
    if stale:
        _reload(app, former)
        _require_shown(app, stale, host)
    return {"changed": sorted(changed | stale)}


def _refuse_others(app: str, given: Mapping[str, Json]) -> None:
    for path in sorted((caddy.SETTINGS / "apps").glob("*.json")):
        if path.stem != app and (taken := caddy.hosts(read_json(path) or {"routes": []}) & set(given)):
            what = f"{sorted(taken)[0]} is answered by the app {path.stem}"
            raise HostError(what, str(path), "give a certificate for a name of this app's", USAGE)


def _candidate(app: str, name: str) -> Path:
    """The file that is to take the former's place, beside it."""
    return caddy.bundle(app, name).with_name(f".{name}.next")


def _proven(app: str, name: str, told: Json) -> Path:
    """The candidate, when a visitor has shaken hands with it. Raises HostError (usage)."""
    certificates, _ = certificate.blocks(told["certificate"])
    key = told["key"] or _kept_key(app, name)
    for directory in (caddy.SETTINGS / "certs", caddy.SETTINGS / "certs" / app):
        make_directory(directory, 0o755)
    path = _keep(_candidate(app, name), "\n".join([*certificates, key.strip(), ""]).encode())
    try:
        tls.handshake(path, name, tls.trusting_context("\n".join(certificates)))
    except (ssl.SSLError, ValueError) as error:
        what = f"this is no certificate for {name} with its key: {tls.reason(error)}"
        raise HostError(what, name, "correct certificate and key in domains of deploy.yml", USAGE) from None
    return path


def _keep(path: Path, bundle: bytes) -> Path:
    """Write the bundle readable by the edge before the edge looks for it: Caddy refuses to start otherwise."""
    write_atomic(path, bundle, 0o640)
    shutil.chown(path, group=GROUP)
    return path


def _kept_key(app: str, name: str) -> str:
    _, keys = certificate.blocks(_bytes(caddy.bundle(app, name)).decode())
    if not keys:
        what = f"there is no key for the certificate of {name}, neither given nor on this host"
        raise HostError(what, name, "deploy secrets set, with the name that domains gives it", USAGE)
    return keys[0]


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _in_force(app: str) -> set[str]:
    """The names whose own certificates the edge was told to load."""
    loaded = (read_json(caddy.CONFIG) or {}).get("apps", {}).get("tls", {}).get("certificates", {})
    files = [Path(file["certificate"]) for file in loaded.get("load_files", [])]
    return {file.stem for file in files if file.parent == caddy.SETTINGS / "certs" / app}


def _shown(app: str, name: str) -> bool:
    first = certificate.blocks(caddy.bundle(app, name).read_text())[0][0]
    return certificate.presented(name) == ssl.PEM_cert_to_DER_cert(first)


def _reload(app: str, former: Mapping[str, bytes]) -> None:
    try:
        caddy.reload(caddy.CONFIG, anew=True)
    except HostError:
        for name in filter(former.get, former):
            _keep(_candidate(app, name), former[name]).replace(caddy.bundle(app, name))
        raise


def _require_shown(app: str, names: set[str], host: Host) -> None:
    begun = host.clock()
    while left := [name for name in sorted(names) if not _shown(app, name)]:
        if host.clock() - begun >= PATIENCE:
            raise HostError(
                f"the edge goes on to show another certificate of {left[0]}", left[0], "deploy doctor", FAILED
            )
        host.sleep(LOOK)
