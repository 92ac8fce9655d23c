"""systemd, controlled through systemctl, systemd-run and journalctl; tests substitute a fake."""

from __future__ import annotations

import calendar
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hostctl.common.errors import FAILED, HostError

UNIT_PROPERTIES = "ActiveState,SubState,NRestarts,Result,MainPID,MemoryCurrent,Job"
START_POLL_SECONDS = 0.02  # seconds between two checks of a unit that starts
UNIT_EXISTS = "unit exists"  # the reason of a HostError: another unit of that name has not been unloaded yet
CONTROL = Path("/run/systemd/system.control")  # where systemd keeps what `set-property --runtime` has set
CALL_SECONDS = 660  # seconds; a stop takes as long as the unit's TimeoutStopSec, which is 600 at most


def _call(*args: str, timeout: float = CALL_SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, capture_output=True, text=True, errors="replace", check=False, timeout=timeout)


class Unit:
    """The state of a unit."""

    def __init__(self, properties: dict[str, str]) -> None:
        self.state = properties.get("ActiveState", "unknown")
        self.sub = properties.get("SubState", "unknown")
        self.result = properties.get("Result", "")
        # a start that waits for another unit: nothing has run yet
        self.queued = properties.get("Job", "") not in ("", "0")
        self.restarts = int(properties.get("NRestarts") or 0)
        memory = properties.get("MemoryCurrent", "")
        self.memory = int(memory) if memory.isdigit() and int(memory) < 1 << 62 else None

    @property
    def runs(self) -> bool:
        return self.state in ("active", "activating", "reloading") and self.sub != "auto-restart"


def parse_show(text: str) -> list[dict[str, str]]:
    """The output of `systemctl show` for several units."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    return [dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line) for block in blocks]


def _next_elapse(properties: dict[str, str]) -> float | None:
    """When a timer fires next, from its properties in `systemctl show --timestamp=utc`; None if it does not."""
    try:
        return calendar.timegm(time.strptime(properties.get("NextElapseUSecRealtime", ""), "%a %Y-%m-%d %H:%M:%S UTC"))
    except ValueError:
        return None


def refusal_reason(answer: str) -> str:
    """The reason of systemd-run's refusal, whose exit status is always 1: UNIT_EXISTS, or "" for any other."""
    return UNIT_EXISTS if "was already loaded or has a fragment file" in answer else ""


class Systemd:
    """The calls that hostctl needs."""

    def show(self, *units: str) -> list[Unit]:
        """The state of each unit, in order; that of an unknown unit is inactive."""
        if not units:
            return []
        done = _call("systemctl", "show", "-p", UNIT_PROPERTIES, "--", *units)
        states = [Unit(block) for block in parse_show(done.stdout)]
        return states + [Unit({})] * (len(units) - len(states))

    def control_group(self, unit: str) -> str:
        """The control group of a unit that runs, a path below /sys/fs/cgroup; "" for one that does not."""
        return _call("systemctl", "show", "--value", "-p", "ControlGroup", "--", unit).stdout.strip()

    def start(self, unit: str) -> None:
        """Start a unit without waiting until it is up. Raises HostError."""
        done = _call("systemctl", "start", "--no-block", "--", unit)
        if done.returncode != 0:
            raise HostError(
                f"systemd does not start {unit}: {done.stderr.strip()[:500]}",
                unit,
                f"systemctl status {unit}",
                FAILED,
            )

    def stop(self, unit: str) -> None:
        """Stop a unit and wait until it has ended. Does nothing for a unit that does not exist.

        Raises HostError.
        """
        done = _call("systemctl", "stop", "--", unit)
        if done.returncode != 0 and self.show(unit)[0].runs:
            raise HostError(
                f"systemd does not stop {unit}: {done.stderr.strip()[:500]}",
                unit,
                f"systemctl stop {unit}",
                FAILED,
            )
        _call("systemctl", "reset-failed", "--", unit)
        shutil.rmtree(CONTROL / f"{unit}.d", ignore_errors=True)

    def restrict_ports(self, unit: str, denied: Sequence[str], allowed: int) -> None:
        """Until the unit is stopped or the host reboots, its processes can listen on one port alone of those denied.

        Without effect where systemd or the kernel cannot do it (before systemd 249, without BPF). At a daemon-reload
        systemd 257 forgets it of a unit that runs, until the unit starts again.
        """
        rules = ["SocketBindDeny=", "SocketBindAllow=", *(f"SocketBindDeny={ports}" for ports in denied)]
        _call("systemctl", "set-property", "--runtime", "--", unit, *rules, f"SocketBindAllow=tcp:{allowed}")

    def next_elapse(self, timer: str) -> float | None:
        """When a timer fires next, in seconds since the epoch; None when it does not."""
        return self.timer_states(timer)[0][1]

    def timer_states(self, *timers: str) -> list[tuple[bool, float | None]]:
        """For each timer, in order: whether it is active, and when it fires next, in seconds since the epoch."""
        if not timers:
            return []
        properties = "ActiveState,NextElapseUSecRealtime"
        done = _call("systemctl", "show", "--timestamp=utc", "-p", properties, "--", *timers)
        states = [(timer.get("ActiveState") == "active", _next_elapse(timer)) for timer in parse_show(done.stdout)]
        return states + [(False, None)] * (len(timers) - len(states))

    def calendar_error(self, event: str) -> str:
        """The fault of a calendar event of systemd.time(7); "" if it is valid."""
        done = _call("systemd-analyze", "calendar", "--", event)
        if done.returncode != 0:
            return " ".join(done.stderr.split())[:300]
        return "it never occurs" if "Next elapse: never" in done.stdout else ""

    def daemon_reload(self) -> None:
        """Have systemd read the unit files again. Raises HostError."""
        self._require("reads no unit files", "daemon-reload")

    def enabled(self, unit: str) -> bool:
        """Whether the unit is started at boot."""
        return _call("systemctl", "is-enabled", "--", unit).stdout.strip() == "enabled"

    def enable(self, *units: str) -> None:
        """Have the units started at boot. Raises HostError."""
        if units:
            self._require(f"does not enable {', '.join(units)}", "enable", "--", *units)

    def unread(self, *units: str) -> bool:
        """Whether the file of a unit has changed since systemd read it."""
        return "yes" in _call("systemctl", "show", "--value", "-p", "NeedDaemonReload", "--", *units).stdout.split()

    def restart_now(self, unit: str) -> None:
        """Restart a unit, or start it, and wait until it is up. Raises HostError."""
        self._require(f"does not start {unit}", "restart", "--", unit)

    def restart(self, *units: str) -> None:
        """Restart units without waiting until they are up. Raises HostError."""
        if units:
            self._require(f"does not start {', '.join(units)}", "restart", "--no-block", "--", *units)

    def _require(self, failing: str, *words: str) -> None:
        done = _call("systemctl", *words)
        if done.returncode != 0:
            what = f"systemd {failing}: {done.stderr.strip()[:500]}"
            raise HostError(what, "systemd", "journalctl -b -p err", FAILED)

    def text(self, unit: str) -> str:
        """The unit file with its drop-ins."""
        return _call("systemctl", "cat", "--", unit).stdout

    def journal(self, unit: str, lines: int) -> str:
        """The last lines that a unit has written."""
        _call("journalctl", "--sync")
        return _call("journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(lines), "-u", unit).stdout

    def background(self, unit: str, argv: Sequence[str], properties: Sequence[str], wait: bool = False) -> None:
        """Run a command as a transient unit that outlives this process; with `wait`, return when it has started.

        Raises HostError when systemd refuses, with the reason UNIT_EXISTS while a unit of that name is loaded.
        """
        options = [*([] if wait else ["--no-block"]), *(item for line in properties for item in ("-p", line))]
        done = _call("systemd-run", "--quiet", "--collect", f"--unit={unit}", *options, "--", *argv)
        if done.returncode != 0:
            raise HostError(
                f"systemd does not run {unit}: {done.stderr.strip()[:500]}",
                unit,
                f"systemctl status {unit}",
                FAILED,
                reason=refusal_reason(done.stderr),
            )

    def foreground(self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]) -> int:
        """Run a command as a transient unit, its output into a file; returns its exit status when it ends."""
        options = [item for line in properties for item in ("-p", line)]
        command = [
            "systemd-run",
            "--quiet",
            "--collect",
            "--wait",
            "--pipe",
            f"--unit={unit}",
            *options,
            "--",
            *argv,
        ]
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False).returncode

    def attach(
        self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a command as a transient unit, its output into a file.

        The returned process ends with the command, and with its exit status; to end it does not end the unit.
        """
        options = [item for line in properties for item in ("-p", line)]
        command = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={unit}", *options, "--", *argv]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def kill(self, unit: str, signal_name: str) -> None:
        """Send a signal to the main process of a unit; none to a unit that does not run."""
        _call("systemctl", "kill", "--kill-who=main", f"--signal={signal_name}", "--", unit)

    def own_unit(self) -> str:
        """The unit or session of this process, as the system's manager knows it; "" where it has none."""
        try:
            parts = Path("/proc/self/cgroup").read_text().strip().rpartition("\n")[2].split("/")
        except OSError:
            return ""
        # the outermost one: within user@1000.service are units of another manager
        names = [name for name in parts if name.endswith((".service", ".scope")) and name != "init.scope"]
        return next((name for name, unit in zip(names, self.show(*names), strict=False) if unit.runs), "")

    def spawn(self, unit: str, argv: Sequence[str], properties: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command as a transient unit with its output in the journal; returns when it has started or ended.

        The returned process ends with the command, and with its exit status.
        """
        options = [item for line in properties for item in ("-p", line)]
        command = ["systemd-run", "--quiet", "--collect", "--wait", f"--unit={unit}", *options, "--", *argv]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while process.poll() is None and self.show(unit)[0].state in ("inactive", "activating", "unknown"):
            time.sleep(START_POLL_SECONDS)
        return process

    def running_inside(self, unit: str) -> bool:
        """Whether this process runs in the unit."""
        try:
            with open("/proc/self/cgroup") as file:  # noqa: PTH123 - nothing else here needs a Path
                return f"/{unit}" in file.read()
        except OSError:
            return False


def self_command(program: str, *args: str) -> list[str]:
    """The command by which a transient unit calls hostctl."""
    return [os.fspath(program), *args]
