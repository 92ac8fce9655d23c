"""Chooses where a release is built (on this machine, in a container or on the host), and builds it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from homeport.core.errors import ExitCode, HomeportError
from homeport.release import container, local
from homeport.release.abi import version_number
from homeport.release.command import Report

ENGINES = ("podman", "docker")


class Laptop(NamedTuple):
    """The facts of this machine. `glibc` is "" with another C library; `engine` is "" without podman and docker."""

    system: str
    machine: str
    glibc: str
    has_mix: bool
    engine: str


class Plan(NamedTuple):
    """The strategy (local, container or host), and the reason for it."""

    strategy: str
    reason: str


def laptop() -> Laptop:
    """The facts of this machine."""
    library, version = platform.libc_ver()
    engine = next((name for name in ENGINES if shutil.which(name)), "")
    return Laptop(
        platform.system(),
        platform.machine(),
        version if library == "glibc" else "",
        shutil.which("mix") is not None,
        engine,
    )


def plan(configured: str, here: Laptop, host: Mapping[str, Any] | None) -> Plan:
    """The plan for a value of `release.build`. `host` are hostctl's facts, None before the first contact.

    Raises HomeportError if the strategy is not possible on this machine.
    """
    if configured == "auto":
        return _first_that_fits(here, host)
    if configured == "local" and not here.has_mix:
        fix = "install Elixir, or set `release.build: auto` in deploy.yml"
        raise HomeportError("mix is not on the PATH of this machine", "release.build", fix, ExitCode.USAGE)
    if configured == "container" and not here.engine:
        fix = "install podman or docker, or set `release.build: host` in deploy.yml"
        raise HomeportError("podman or docker is not on the PATH", "release.build", fix, ExitCode.USAGE)
    return Plan(configured, "release.build says so")


def _first_that_fits(here: Laptop, host: Mapping[str, Any] | None) -> Plan:
    reason = _reason_against_local(here, host)
    if not reason:
        return Plan("local", "mix is here, and this machine is like the host" if host else "mix is here")
    if here.engine:
        return Plan("container", f"{reason}; {here.engine} is here")
    return Plan("host", f"{reason}; neither podman nor docker is here")


def _reason_against_local(here: Laptop, host: Mapping[str, Any] | None) -> str:
    """Why a release built on this machine would not run on the host; "" if it would."""
    if not here.has_mix:
        return "mix is not here"
    if here.system != "Linux" or not here.glibc:
        return f"a release built on {here.system or 'this system'} does not run on Debian"
    if host and here.machine != host["machine"]:
        return f"this machine is {here.machine}, the host is {host['machine']}"
    if host and version_number(here.glibc) > version_number(str(host["glibc"])):
        return f"this machine has glibc {here.glibc}, the host only {host['glibc']}"
    return ""


def build(
    strategy: str,
    root: Path,
    release: str,
    env: dict[str, str],
    report: Report,
    *,
    containerfile: str | None = None,
    codename: str = "",
    engine: str = "",
) -> Path:
    """Build by `strategy` ("local" or "container") and return the release's directory.

    `codename` is that of the host's Debian. Raises HomeportError with the failed command's last lines.
    """
    if strategy == "local":
        return local.build(root, release, env, report)
    own = container.own_file(root, containerfile)
    return container.build(root, release, env, report, engine=engine, codename=codename, containerfile=own)
