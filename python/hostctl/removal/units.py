"""The side effects of a removal on units, users and the edge; tests substitute a fake."""

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
from hostctl.core.paths import App
from hostctl.edge import caddy
from hostctl.host import firewall
from hostctl.host.systemd import CALL_SECONDS

PROC = Path("/proc")
DYING = 10.0  # seconds for a killed process to end


class Machine:
    """The real host. Every method raises HostError when it fails."""

    def units(self) -> list[str]:
        """Every loaded unit that is active, starting, stopping or failed."""
        states = "--state=active,activating,reloading,deactivating,failed"
        told = self._call("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", states)
        return [line.split()[0] for line in told.splitlines() if line.strip()]

    def stop(self, units: Sequence[str]) -> None:
        """Stop units, wait until they have ended, and reset their failures. A unit that is gone counts as stopped."""
        for verb in ("stop", "reset-failed") if units else ():
            subprocess.run(["systemctl", verb, "--", *units], capture_output=True, check=False, timeout=CALL_SECONDS)
        if left := sorted({*units} & {*self.units()}):
            raise HostError(f"systemd does not stop {left[0]}", left[0], f"systemctl stop {left[0]}, and try again")

    def reload(self) -> None:
        """Reload systemd's unit files."""
        self._call("systemctl", "daemon-reload")

    def apply_edge(self) -> None:
        """Apply the edge's configuration on the disk."""
        caddy.apply()

    def close_ports(self, app: App) -> None:
        """Have the firewall close the ports that only this app opens."""
        firewall.forget(app.layout, app.name)

    def forget_user(self, name: str) -> bool:
        """Kill the processes of a user, then delete the user and its group. Returns whether it existed."""
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
        """The names that are users of the host."""
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
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=CALL_SECONDS)
        if done.returncode != 0:
            said = done.stderr.strip()[-500:] or f"exit status {done.returncode}"
            raise HostError(f"{' '.join(argv[:2])} failed: {said}", argv[-1], "correct that, and try again")
        return done.stdout


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _processes(user: int) -> Iterator[int]:
    """The processes of a user, by /proc/PID/status: the owner of /proc/PID may be root (proc(5))."""
    for entry in PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError, StopIteration):
            lines = (entry / "status").read_text().splitlines()
            if user in map(int, next(line for line in lines if line.startswith("Uid:")).split()[1:]):
                yield int(entry.name)
