"""Creates, finds, reboots and removes sandboxes."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from homeport.core import pinned_programs
from homeport.core.errors import ExitCode, HomeportError
from homeport.sandbox import (
    addresses,
    control_groups,
    durable,
    image,
    leftovers,
    network,
    privilege,
    services,
    state,
    supervisor,
    tree,
)
from homeport.sandbox.model import SANDBOXES, SUITES, Sandbox, check_name

# called with a step when it begins, and with its seconds when it has succeeded
Report = Callable[[str, float | None], None]
_BOOT_SECONDS = 90.0  # the time limit of a boot, which takes about five seconds
DEFAULT = "default"


def _silent(step: str, seconds: float | None) -> None:
    """Report nothing."""


def up(name: str = DEFAULT, suite: str = "trixie", report: Report = _silent, weed: Path | None = None) -> Sandbox:
    """The running sandbox of that name, or a new one, after removing what a killed run left.

    `weed` is the path of a SeaweedFS executable. Raises HomeportError if a sandbox cannot run or be created here.
    """
    check_name(name)
    _check_suite(suite)
    privilege.check_machine()
    current = get(name)
    if current is not None and current.state == "up":
        return _same_suite(current, suite)
    weed = weed or _fetch_weed(report)
    if not privilege.is_root():
        privilege.rerun_as_root(["up", "--name", name, "--suite", suite, "--weed", str(weed)])
        return running(name)
    with durable.lock(f"sandbox-{name}"):
        current = get(name)
        if current is not None and current.state == "up":
            return _same_suite(current, suite)
        return _make(name, suite, report, weed)


def get(name: str = DEFAULT) -> Sandbox | None:
    """The sandbox of that name, up or down, or None."""
    current = state.load(check_name(name))
    return None if current is None else state.to_sandbox(current)


def all_sandboxes() -> list[Sandbox]:
    """Every sandbox of this machine, by name."""
    sandboxes = (get(name) for name in state.names())
    return [sandbox for sandbox in sandboxes if sandbox is not None]


def down(name: str = DEFAULT, report: Report = _silent) -> bool:
    """Remove everything of a sandbox except the cached Debian image; returns whether there was anything to remove."""
    check_name(name)
    if not _has_leftovers(name):
        return False
    if not privilege.is_root():
        privilege.rerun_as_root(["down", "--name", name])
        return True
    with durable.lock(f"sandbox-{name}"):
        _clear(name, report)
    _remove_shared_if_unused()
    return True


def reboot(name: str = DEFAULT, hard: bool = False, report: Report = _silent) -> Sandbox:
    """Reboot the host and wait until it answers; `hard` kills it without a shutdown, as a power cut would."""
    sandbox = running(name)
    if not privilege.is_root():
        privilege.rerun_as_root(["reboot", "--name", name, *(["--hard"] if hard else [])])
        return sandbox
    before = _boot_id(sandbox)
    with _step(report, "power cut" if hard else "reboot"):
        if hard:
            _cut_power(name)
        else:
            sandbox.run("systemctl reboot")
        _wait_for_host(sandbox, before)
    return sandbox


def _cut_power(name: str) -> None:
    current = state.load(name)
    if current is not None and state.is_supervised(current):
        os.kill(current.pid, signal.SIGUSR1)


def _check_suite(suite: str) -> None:
    if suite not in SUITES:
        fix = f"use {' or '.join(SUITES)}"
        raise HomeportError(f"there is no sandbox of {suite!r}", "--suite", fix, ExitCode.USAGE)


def _same_suite(running: Sandbox, suite: str) -> Sandbox:
    if running.suite != suite:
        fix = f"deploy sandbox down --name {running.name}, or use another --name"
        what = f"sandbox {running.name} is up with {running.suite}, not {suite}"
        raise HomeportError(what, str(running.directory), fix, ExitCode.USAGE)
    return running


def running(name: str) -> Sandbox:
    """The sandbox of that name. Raises HomeportError unless it is up."""
    sandbox = get(name)
    if sandbox is None or sandbox.state != "up":
        fix = f"deploy sandbox up --name {name}"
        raise HomeportError(f"sandbox {name} is not up", str(SANDBOXES / name), fix)
    return sandbox


def _make(name: str, suite: str, report: Report, weed: Path) -> Sandbox:
    _clear(name, report)
    with _step(report if not image.cache_path(suite).is_file() else _silent, f"make Debian {suite}"):
        tar = image.fetch(suite)
    try:
        return _build(_allot(name, suite), tar, weed, report)
    except BaseException:
        _clear(name, _silent)
        _remove_shared_if_unused()
        raise


def _allot(name: str, suite: str) -> state.State:
    with durable.lock("addresses"):
        slot = addresses.allot(state.slots_taken(besides=name))
        if slot is None:
            raise HomeportError("every address is taken", addresses.SUBNET, "deploy sandbox down --name NAME")
        current = state.State(name, suite, slot.number, privilege.owner())
        state.save(current)
    return current


def _build(current: state.State, tar: Path, weed: Path, report: Report) -> Sandbox:
    sandbox = state.to_sandbox(current)
    with _step(report, f"network {sandbox.address}"):
        _create_directories(sandbox, weed)
        network.connect(sandbox)
        services.prepare(sandbox)
        tree.make_keys(sandbox)
        privilege.give([sandbox.key, sandbox.credentials], current.owner)
    current = _supervise(sandbox, current)
    with _step(report, "unpack Debian"):
        _unpack(sandbox, tar)
    with _step(report, "boot"):
        _wait_for_host(sandbox)
    with _step(report, "S3 and ACME"):
        services.make_bucket(sandbox)
        services.fetch_root(sandbox)
    state.save(replace(current, ready=True))
    return running(sandbox.name)


def _create_directories(sandbox: Sandbox, weed: Path) -> None:
    sandbox.machine.mkdir(mode=0o700)
    (sandbox.directory / "logs").mkdir()
    # a copy, because the cache may be cleaned, or belong to a user
    shutil.copy(weed, sandbox.machine / "weed")


def _supervise(sandbox: Sandbox, current: state.State) -> state.State:
    pid = supervisor.launch(sandbox)
    current = replace(current, pid=pid, started=state.start_time(pid))
    state.save(current)
    return current


def _unpack(sandbox: Sandbox, tar: Path) -> None:
    part = sandbox.tree.with_name("tree.part")
    image.unpack(tar, part)
    tree.prepare(sandbox, part)
    part.rename(sandbox.tree)


def _fetch_weed(report: Report) -> Path:
    with _step(report, "SeaweedFS"):
        return pinned_programs.fetch("seaweedfs", platform.machine())


def _boot_id(sandbox: Sandbox) -> str:
    return sandbox.run("cat /proc/sys/kernel/random/boot_id").stdout.strip()


def _wait_for_host(sandbox: Sandbox, previous: str = "") -> None:
    deadline = time.monotonic() + _BOOT_SECONDS
    while _boot_id(sandbox) in ("", previous):
        _check_alive(sandbox, deadline)
        time.sleep(0.1)
    # wait for units that are still starting
    sandbox.run("timeout 60 systemctl is-system-running --wait")


def _check_alive(sandbox: Sandbox, deadline: float) -> None:
    current = state.load(sandbox.name)
    if current is not None and state.is_supervised(current) and time.monotonic() < deadline:
        return
    log = sandbox.directory / "logs" / "host.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""
    raise HomeportError(f"the host of sandbox {sandbox.name} does not boot:\n{tail}", str(log), f"less {log}")


def _has_leftovers(name: str) -> bool:
    return (SANDBOXES / name).exists() or bool(leftovers.processes(name)) or network.exists(name)


def _clear(name: str, report: Report) -> None:
    if not _has_leftovers(name):
        return
    current = state.load(name)
    with _step(report, f"clear sandbox {name}"):
        leftovers.kill(name)
        control_groups.remove(name)
        network.disconnect(name, current.slot if current else None)
        leftovers.remove_directory(SANDBOXES / name)


def _remove_shared_if_unused() -> None:
    with durable.lock("addresses"):
        if state.names():
            return
        network.remove_bridge_if_unused()
        if SANDBOXES.is_dir():
            SANDBOXES.rmdir()
    durable.forget_locks()


@contextmanager
def _step(report: Report, what: str) -> Iterator[None]:
    """Report a step at its beginning, and at its end with the seconds it took."""
    report(what, None)
    started = time.monotonic()
    yield
    report(what, time.monotonic() - started)
