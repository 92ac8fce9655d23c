"""The supervisor process of a sandbox: starts the services and the host, and restarts those that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from homeport.sandbox import control_groups, leftovers, services
from homeport.sandbox.commands import environment, run, succeeds
from homeport.sandbox.model import MARKER, Sandbox

_REBOOT = 133  # the exit status of nspawn under --keep-unit if the host reboots
_TICK = 0.1
_PAUSE = 1.0  # seconds between two starts of a service
# nspawn fails if an earlier run left files there: each run gets an empty directory in its own mount namespace
_PRIVATE = 'mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn && exec "$@"'
# SeaweedFS uses sockets in /tmp named by port only: without a private /tmp two sandboxes would share a store
_OWN_TMP = 'mount -t tmpfs tmpfs /tmp && exec "$@"'
_UNSHARE = ("unshare", "--mount", "--propagation", "slave", "sh", "-c")


def host_argv(sandbox: Sandbox) -> list[str]:
    """The command that boots the host and runs until the host shuts down."""
    unshare = [*_UNSHARE, _PRIVATE, "sh"]
    alone = ["--register=no", "--keep-unit", "--settings=no", "--link-journal=no", "--console=read-only"]
    network = [f"--network-namespace-path=/run/netns/{sandbox.namespace}", "--capability=CAP_NET_ADMIN"]
    files = ["-D", str(sandbox.tree), "--resolv-conf=off", "--timezone=off"]
    named = [f"--machine={sandbox.name}", f"--setenv={MARKER}={sandbox.name}"]
    return [*unshare, "systemd-nspawn", "--quiet", "--boot", *alone, *network, *files, *named]


class Supervisor:
    """Runs until it gets a signal to stop, or until the host powers off."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._not_before: dict[str, float] = {}
        self._stopping = False
        self._power_cut = False

    def run(self) -> None:
        """Supervise until the end, then end every process of the sandbox."""
        if not under_systemd():  # systemd has created a group for this unit
            control_groups.enter(self._sandbox.name)
        os.chdir("/")
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGUSR1, self._cut_power)
        try:
            while not self._stopping:
                self._check_services()
                self._check_host()
                time.sleep(_TICK)
        finally:
            leftovers.kill(self._sandbox.name, spared={os.getpid()})

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _cut_power(self, number: int, frame: FrameType | None) -> None:
        self._power_cut = True

    def _check_services(self) -> None:
        for service in services.all_of(self._sandbox):
            process = self._running.get(service.name)
            if process is None:
                self._start_service(service)
            elif process.poll() is not None and self._may_start(service.name):
                self._start_service(service)
                if service.name == "acme":
                    threading.Thread(target=services.fetch_root, args=(self._sandbox,), daemon=True).start()

    def _may_start(self, name: str) -> bool:
        return time.monotonic() >= self._not_before.get(name, 0.0)

    def _start_service(self, service: services.Service) -> None:
        inside = ["nsenter", f"--net=/run/netns/{self._sandbox.services_namespace}", "--", *_UNSHARE, _OWN_TMP, "sh"]
        self._start(service.name, [*inside, *service.argv], service.environment)

    def _check_host(self) -> None:
        host = self._running.get("host")
        if host is None:
            if self._sandbox.tree.is_dir():  # renamed to this when it is complete
                self._start_host()
            return
        if self._power_cut:
            self._power_cut = False
            leftovers.kill_with_children(host.pid)
            host.wait()
            self._start_host()
        elif host.poll() is not None:
            self._stopping = host.returncode != _REBOOT
            if not self._stopping:
                self._start_host()

    def _start_host(self) -> None:
        # /tmp as the Debian release decides: in memory on 13, on disk on 12
        settings = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_TMPFS_TMP": "0"}
        self._start("host", host_argv(self._sandbox), settings)

    def _start(self, name: str, argv: list[str], more: dict[str, str]) -> None:
        self._not_before[name] = time.monotonic() + _PAUSE
        with (self._sandbox.directory / "logs" / f"{name}.log").open("ab") as log:
            env = environment(**more, **{MARKER: self._sandbox.name})
            self._running[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd="/"
            )


def under_systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def launch(sandbox: Sandbox) -> int:
    """Start the supervisor outside of the caller's session; returns its process number."""
    argv = [sys.executable, "-m", "homeport.sandbox", sandbox.name]
    log = sandbox.directory / "logs" / "supervisor.log"
    if under_systemd():
        return _launch_as_unit(sandbox, argv, log)
    # not subprocess, which would wait for the child and warn about it
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    outputs = [(os.POSIX_SPAWN_OPEN, number, str(log), appended, 0o644) for number in (1, 2)]
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *outputs]
    return os.posix_spawn(argv[0], argv, environment(**{MARKER: sandbox.name}), file_actions=actions, setsid=True)


def _launch_as_unit(sandbox: Sandbox, argv: list[str], log: Path) -> int:
    """Start the supervisor as a systemd unit: it outlives the login, and the host may create control groups in it."""
    unit = f"homeport-sandbox-{sandbox.name}.service"
    settings = (
        "Delegate=yes",
        "KillMode=mixed",
        f"StandardOutput=append:{log}",
        f"StandardError=append:{log}",
    )
    options = [part for setting in settings for part in ("--property", setting)]
    options += [f"--setenv={MARKER}={sandbox.name}", f"--setenv=PATH={environment()['PATH']}"]
    succeeds("systemctl", "reset-failed", unit)
    run("systemd-run", "--quiet", "--collect", f"--unit={unit}", *options, "--", *argv)
    return int(run("systemctl", "show", "--property=MainPID", "--value", unit))
