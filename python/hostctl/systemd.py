"""systemd, through its own programs. A thin edge: tests put another object in its place."""

from __future__ import annotations

import calendar
import os
import subprocess
import time
from collections.abc import Sequence
from typing import IO

from hostctl.errors import FAILED, HostError

SHOWN = "ActiveState,SubState,NRestarts,Result,MainPID,MemoryCurrent,Job"
LONGEST = 660  # seconds; a stop takes as long as the unit's TimeoutStopSec, which is 600 at most


def _call(*args: str, timeout: float = LONGEST) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, capture_output=True, text=True, errors="replace", check=False, timeout=timeout)


class Unit:
    """What systemd says of a unit."""

    def __init__(self, properties: dict[str, str]) -> None:
        self.state = properties.get("ActiveState", "unknown")
        self.sub = properties.get("SubState", "unknown")
        self.result = properties.get("Result", "")
        # a start that waits for another unit: nothing has run yet, and nothing has ended
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


class Systemd:
    """The calls that hostctl needs."""

    def show(self, *units: str) -> list[Unit]:
        """The state of each unit, in order; one that was never seen is inactive."""
        if not units:
            return []
        done = _call("systemctl", "show", "-p", SHOWN, "--", *units)
        found = [Unit(block) for block in parse_show(done.stdout)]
        return found + [Unit({})] * (len(units) - len(found))

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
        """Stop a unit and wait until it has ended; one that is not there is stopped already.

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

    def next_elapse(self, timer: str) -> float | None:
        """When a timer fires next, in seconds since the epoch; None when it does not."""
        done = _call("systemctl", "show", "--timestamp=utc", "--value", "-p", "NextElapseUSecRealtime", "--", timer)
        try:
            return calendar.timegm(time.strptime(done.stdout.strip(), "%a %Y-%m-%d %H:%M:%S UTC"))
        except ValueError:
            return None

    def text(self, unit: str) -> str:
        """The unit file with its drop-ins."""
        return _call("systemctl", "cat", "--", unit).stdout

    def journal(self, unit: str, lines: int) -> str:
        """The last lines a unit wrote."""
        _call("journalctl", "--sync")
        return _call("journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(lines), "-u", unit).stdout

    def background(self, unit: str, argv: Sequence[str], properties: Sequence[str], wait: bool = False) -> None:
        """Run a command as a transient unit that outlives this process; with `wait`, until it has begun.

        Raises HostError when systemd refuses.
        """
        options = [*([] if wait else ["--no-block"]), *(item for line in properties for item in ("-p", line))]
        done = _call("systemd-run", "--quiet", "--collect", f"--unit={unit}", *options, "--", *argv)
        if done.returncode != 0:
            raise HostError(
                f"systemd does not run {unit}: {done.stderr.strip()[:500]}",
                unit,
                f"systemctl status {unit}",
                FAILED,
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

    def running_inside(self, unit: str) -> bool:
        """Whether this very process belongs to the unit."""
        try:
            with open("/proc/self/cgroup") as file:  # noqa: PTH123 - nothing else here needs a Path
                return f"/{unit}" in file.read()
        except OSError:
            return False


def self_command(program: str, *args: str) -> list[str]:
    """How a transient unit calls hostctl again."""
    return [os.fspath(program), *args]
