"""Units, users and the edge of the whole host, as a removal needs them. A thin edge: tests put another in its place."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from hostctl.common.errors import HostError
from hostctl.edge import caddy
from hostctl.host.systemd import LONGEST

PROC = Path("/proc")
DYING = 10.0  # seconds that a killed process may take to leave


class Machine:
    """The real host. Every method raises HostError when the host refuses."""

    def units(self) -> list[str]:
        """Every loaded unit that is active, about to be, or failed."""
        states = "--state=active,activating,reloading,deactivating,failed"
        told = self._call("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", states)
        return [line.split()[0] for line in told.splitlines() if line.strip()]

    def stop(self, units: Sequence[str]) -> None:
        """Stop them at once, wait until they have ended, and forget how. One that has left meanwhile is stopped."""
        for verb in ("stop", "reset-failed") if units else ():
            subprocess.run(["systemctl", verb, "--", *units], capture_output=True, check=False, timeout=LONGEST)
        if left := sorted({*units} & {*self.units()}):
            raise HostError(f"systemd does not stop {left[0]}", left[0], f"systemctl stop {left[0]}, and try again")

    def reload(self) -> None:
        """Have systemd read the unit files again."""
        self._call("systemctl", "daemon-reload")

    def apply_edge(self) -> None:
        """Have the edge serve what is on the disk."""
        caddy.apply()

    def forget_user(self, name: str) -> bool:
        """Remove a user and the group of its name, after ending what runs as it; whether there was one."""
        try:
            number = pwd.getpwnam(name).pw_uid
        except KeyError:
            return False
        self._end(number)
        self._call("userdel", name)
        with suppress(KeyError):
            grp.getgrnam(name)  # userdel leaves a group that has other members
            self._call("groupdel", name)
        return True

    def users(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are users of the host."""
        return [name for name in names if _is_user(name)]

    def _end(self, user: int) -> None:
        deadline = time.monotonic() + DYING
        while pids := list(_processes(user)):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() >= deadline:
                raise HostError(f"process {pids[0]} does not end", f"/proc/{pids[0]}", "reboot the host, and try again")
            time.sleep(0.02)

    def _call(self, *argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=LONGEST)
        if done.returncode != 0:
            said = done.stderr.strip()[-500:] or f"exit status {done.returncode}"
            raise HostError(f"{' '.join(argv[:2])} failed: {said}", argv[-1], "mend what it says, and try again")
        return done.stdout


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _processes(user: int) -> Iterator[int]:
    """Those that run as the user: /proc's own owner is root's for some (proc(5))."""
    for entry in PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError, StopIteration):
            lines = (entry / "status").read_text().splitlines()
            if user in map(int, next(line for line in lines if line.startswith("Uid:")).split()[1:]):
                yield int(entry.name)
