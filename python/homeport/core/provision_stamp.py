"""The provision stamp: a hash of everything that provisioning depends on. A push provisions only if it differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostctl
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.packaged_files import collection
from hostctl.common.files import file_digest

# paths of this laptop, and variables that only a push reads: provisioning does not depend on them
LAPTOP_ONLY = frozenset(
    {
        "homeport_acme_root",
        "homeport_backup_secrets",
        "homeport_build",
        "homeport_destination",
        "homeport_env",
        "homeport_env_secret",
        "homeport_hooks",
        "homeport_name",
        "homeport_root",
        "homeport_settings",
        "homeport_verify_address",
    }
)


class NeedsProvisionError(HomeportError):
    """The roles or variables differ from what the host was last provisioned with."""

    reason = "needs-provision"

    def __init__(self, where: str) -> None:
        super().__init__(
            "the host is provisioned for other settings than these", where, "deploy provision", ExitCode.FAILED
        )


def stamp(host_vars: dict[str, Any]) -> str:
    """The hash over the roles, the playbook, hostctl's source, the pinned programs, and the variables they read."""
    total = hashlib.sha256()
    for path in _sources():
        total.update(path.name.encode() + b"\0" + bytes.fromhex(file_digest(path)))
    total.update(json.dumps(_host_variables(host_vars), sort_keys=True).encode())
    return total.hexdigest()


def _sources() -> Iterator[Path]:
    package = Path(__file__).parents[1]
    yield collection() / "playbooks" / "provision.yml"
    yield package / "core" / "pinned_programs.json"
    for root in (collection() / "roles", Path(hostctl.__file__).parent):
        yield from sorted(path for path in root.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".md"))


def _host_variables(host_vars: dict[str, Any]) -> dict[str, Any]:
    return {name: _stamp_value(name, value) for name, value in host_vars.items() if _is_of_host(name)}


def _is_of_host(name: str) -> bool:
    return not name.startswith("ansible_") and name not in LAPTOP_ONLY


def _stamp_value(name: str, value: Any) -> Any:
    """The value; for a file that is copied to the host, the digest of its content."""
    if name == "homeport_acme_ca":
        return _digest(value)
    if name == "homeport_certificates":
        return [certificate["name"] for certificate in value]  # their content comes by `deploy certs push`
    if name == "homeport_accessories":
        return [_without_sources(accessory) for accessory in value]
    if name == "homeport_database" and value and value["backup"]:
        return {**value, "backup": {**value["backup"], "ca": _digest(value["backup"]["ca"])}}
    return value


def _without_sources(accessory: dict[str, Any]) -> dict[str, Any]:
    """The accessory with the digests of its files, but without their paths on the laptop."""
    return {**accessory, "files": [{**file, "src": None} for file in accessory["files"]]}


def _digest(file: str | None) -> str | None:
    return file_digest(Path(file)) if file else file
