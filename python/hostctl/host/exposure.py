"""What of this host other machines can reach now, and which programs serve it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostctl.host import listeners
from hostctl.host.listeners import Socket

# Programs that talk to their neighbours by default on a rented server and that nobody reaches on purpose: a firewall
# closes them without asking. By the name that the kernel has of them, of 15 characters.
CHATTER = frozenset(
    {"systemd-resolve", "systemd-network", "systemd-timesyn", "avahi-daemon", "rpcbind", "rpc.statd", "chronyd", "ntpd"}
    | {"dhclient", "dhcpcd", "cups-browsed", "epmd"}
)
SSH = frozenset({"sshd", "sshd-session"})
KERNEL = "the kernel"  # the program of a socket that no process holds


class Service(NamedTuple):
    """A port that other machines can reach. `unit`: the control group's last part that is a unit, "" for none."""

    protocol: str  # tcp or udp
    port: int
    program: str
    unit: str

    @property
    def name(self) -> str:
        """As deploy.yml has it in hardening.open."""
        return f"{self.port}/{self.protocol}"


def services(proc: Path = Path("/proc")) -> list[Service]:
    """Every port that other machines can reach, in the network namespace of this process, once for each program."""
    # read before the processes: a socket that one opens meanwhile is not taken for the kernel's
    known, held = listeners.all_inodes(proc), set[str]()
    found: set[Service] = set()
    for process in proc.iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # the process has ended meanwhile
                if (process / "ns/net").readlink() == (proc / "self/ns/net").readlink():
                    sockets = listeners.inodes(process)
                    held |= sockets
                    found |= _of(process, sockets)
    return sorted(found | _public(listeners.of_kernel(proc, held, known), KERNEL, ""))


def _of(process: Path, sockets: set[str]) -> set[Service]:
    program, unit = (process / "comm").read_text().strip(), unit_of((process / "cgroup").read_text())
    return _public(listeners.of_process(process, sockets), program, unit)


def _public(sockets: Iterable[Socket], program: str, unit: str) -> set[Service]:
    public = [each for each in sockets if each.is_public]
    return {Service(each.protocol.removesuffix("6"), each.port, program, unit) for each in public}


def unit_of(cgroup: str) -> str:
    """The unit of a process with this /proc/PID/cgroup: the last part of its path that names one."""
    parts = [part for line in cgroup.splitlines() if line.count(":") >= 2 for part in line.split(":", 2)[2].split("/")]
    units = [part for part in parts if part.endswith((".service", ".socket", ".scope"))]
    return units[-1] if units else ""


def ssh_ports(found: list[Service], configured: str, sockets: str) -> set[int]:
    """The ports on which SSH is served: those that sshd listens on, those that `sshd -T` prints in `configured`, and
    those of `sockets`: the property Listen, as `systemctl show` prints it, of a unit with which systemd listens for it.
    """
    listening = {each.port for each in found if each.program in SSH or each.unit in ("ssh.socket", "ssh.service")}
    lines = (line.split() for line in configured.splitlines())
    settings = {int(words[1]) for words in lines if len(words) == 2 and words[0] == "port" and words[1].isdigit()}
    return listening | settings | {int(port) for port in re.findall(r":(\d+) \(Stream\)", sockets)}
