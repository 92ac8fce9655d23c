"""Checks of the host: its system, disk, memory, clock, units and packages, by Debian's own programs.

The functions `of_…` are pure: they decide over what was read.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hostctl.common.documents import Space
from hostctl.common.finding import ERROR, OK, WARNING, Finding, ok, skipped
from hostctl.doctor.context import Context
from hostctl.host import exposure
from hostctl.host import firewall as host_firewall
from hostctl.host.exposure import Service
from hostctl.verbs import inspect

SUITES = {"12": "bookworm", "13": "trixie"}
ARCHITECTURES = ("x86_64", "aarch64")
MIN_PUSHES = 3  # room for fewer is a warning
STALE = 14 * 86_400  # seconds without an apt-get update; unattended-upgrades runs one daily
PROGRAM_SECONDS = 60  # the time limit of one program

FREE_SPACE = "lower retain_releases, remove what else fills it (df -h, df -i), or get a larger disk"


def output(*argv: str) -> str:
    """The output of a program."""
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", env=env, timeout=PROGRAM_SECONDS, check=False
    )
    return done.stdout


def in_container() -> bool:
    """Whether this system is a container, with the kernel and clock of another machine."""
    return output("systemd-detect-virt", "--container").strip() not in ("none", "")


def addresses() -> list[str]:
    """This host's global addresses, to which its domains may resolve."""
    try:
        links = json.loads(output("ip", "-json", "address", "show", "scope", "global"))
    except (OSError, ValueError):
        return []
    return sorted({str(one["local"]) for link in links for one in link.get("addr_info", []) if "local" in one})


# ---------------------------------------------------------------------------------------------- system


def system(_: Context) -> list[Finding]:
    """The distribution and the architecture."""
    return [of_system(platform.freedesktop_os_release(), os.uname().machine)]


def of_system(release: Mapping[str, str], machine: str) -> Finding:
    """Whether Homeport supports this system."""
    says = f"{release.get('PRETTY_NAME') or 'an unknown system'} on {machine}"
    if release.get("ID") == "debian" and release.get("VERSION_ID") in SUITES and machine in ARCHITECTURES:
        return Finding(OK, says)
    return Finding(
        ERROR, f"{says}: Homeport supports Debian 12 and 13 on x86_64 and aarch64", "rent a host with Debian 13"
    )


# ---------------------------------------------------------------------------------------------- disk


def disk(context: Context) -> Iterable[Finding]:
    """Whether there is room for the next pushes, and for a restore beside the live database."""
    release = int(context.record.get("size") or 0), _files(context.app.tree(context.live)) if context.live else 0
    yield of_disk(context.status["disk"], *release)
    database = context.status["database"]
    beside, size = (database.get("disk"), database.get("bytes")) if database else (None, None)
    if beside and size:
        yield of_database_disk(beside, int(size))


def _files(tree: Path) -> int:
    return sum(len(directories) + len(names) for _, directories, names in os.walk(tree))


def of_disk(space: Space, size: int, files: int) -> Finding:
    """How many releases of this size, each with its artifact, still fit. `size` in bytes, `files` counts inodes."""
    # free, total, and what one push takes
    rows = ((space["free"], space["total"], 2 * size), (space["inodes_free"], space["inodes"], files))
    percents = [100 * free / total for free, total, _ in rows if total]
    fits = [free // each for free, _, each in rows if each and free]
    says = f"{space['free'] / 1e9:.1f} GB and {percents[-1]:.0f} % of the inodes free"
    says += f", room for {_count(min(fits))} more pushes" if fits else ""
    if (fits and min(fits) < 1) or min(percents) < 2:
        return Finding(ERROR, says, FREE_SPACE)
    if (fits and min(fits) < MIN_PUSHES) or min(percents) < 10:
        return Finding(WARNING, says, FREE_SPACE)
    return Finding(OK, says)


def _count(fits: int) -> str:
    return str(fits) if fits < 100 else "hundreds of"


def of_database_disk(space: Space, size: int) -> Finding:
    """Whether a drill or a restore has room for a second copy of the data. Sizes in bytes."""
    says = f"the database has {size / 1e6:,.1f} MB, and {space['free'] / 1e6:,.0f} MB are free beside it"
    if space["free"] >= 1.2 * size:
        return Finding(OK, says)
    return Finding(
        WARNING, f"{says}: too little for a drill or a restore", "get a larger disk, or deploy backup forget ID"
    )


# ---------------------------------------------------------------------------------------------- memory


def memory(context: Context) -> list[Finding]:
    """Whether there is room for the second instance that a push starts beside the first."""
    if context.settings.get("strategy") == "restart":
        return ok("one instance at a time: release.strategy is restart")
    used = context.status["memory"] or _resident(context)
    if not used:
        return skipped("nothing is live, so the memory of an instance is not known")
    return [of_memory(used, inspect.memory(Path("/proc/meminfo").read_text())["available"])]


def _resident(context: Context) -> int:
    """The memory of the unit's main process in bytes, where the kernel does not count it per unit; 0 without one."""
    pid = output("systemctl", "show", "--value", "-p", "MainPID", "--", context.app.unit(context.live or "")).strip()
    if not pid.isdigit() or pid == "0":
        return 0
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def of_memory(used: int, available: int) -> Finding:
    """An instance's memory against what is available, both in bytes."""
    says = f"an instance takes {used / 1e6:.0f} MB, and {available / 1e6:.0f} MB are available for a second"
    if available >= 1.2 * used:
        return Finding(OK, says)
    fix = "get a larger host, or set release.strategy: restart"
    return Finding(ERROR if available < used else WARNING, f"{says}: a push runs two at once", fix)


# ---------------------------------------------------------------------------------------------- clock


def time_sync(_: Context) -> list[Finding]:
    """Whether the clock is synchronized."""
    if in_container():
        return skipped("a container has the clock of its machine")
    return [of_time_sync(output("timedatectl", "show", "--value", "-p", "NTPSynchronized").strip())]


def of_time_sync(synchronized: str) -> Finding:
    """timedatectl's answer: yes or no."""
    if synchronized == "yes":
        return Finding(OK, "the clock is synchronized by NTP")
    fix = "on the host: apt-get install systemd-timesyncd && timedatectl set-ntp true"
    return Finding(WARNING, "the clock is not synchronized by NTP: S3 refuses one that is 15 minutes off", fix)


# ---------------------------------------------------------------------------------------------- units


def units(context: Context) -> list[Finding]:
    """Units that have failed."""
    listing = output("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager")
    return of_units([line.split()[0] for line in listing.splitlines() if line.split()], context.app.name)


def of_units(failed: Sequence[str], app: str) -> list[Finding]:
    """Failed units of the edge and the app are errors, others warnings."""
    ours = (f"{app}@", f"homeport-{app}-", "caddy.", "homeport-boot.")
    found = [
        Finding(
            ERROR if unit.startswith(ours) else WARNING,
            f"{unit} has failed",
            f"on the host: journalctl -u {unit}; when it is repaired: systemctl reset-failed {unit}",
        )
        for unit in failed
    ]
    return found or ok("no unit has failed")


# ---------------------------------------------------------------------------------------------- reboot and packages


def reboot(_: Context) -> list[Finding]:
    """Whether the running system is older than the installed one."""
    required = Path("/run/reboot-required").exists()
    kernels = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")]
    return [of_reboot(required, os.uname().release, kernels)]


def of_reboot(required: bool, running: str, kernels: Sequence[str]) -> Finding:
    """`required`: a package requires a reboot. A running kernel that is not in /boot is the provider's."""
    newest = max(kernels, key=_in_parts, default=running)
    if not required and (running not in kernels or running == newest):
        return Finding(OK, "none is pending")
    why = f"Linux {newest} is installed, {running} runs" if running != newest else "an upgrade requires one"
    return Finding(
        WARNING, f"a reboot is pending: {why}", "on the host: systemctl reboot (the live release comes back)"
    )


def _in_parts(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", version)]


def firewall(context: Context) -> list[Finding]:
    """Whether the firewall is in force, and what it leaves open."""
    return [of_firewall(host_firewall.state(context.app.layout), exposure.services())]


def of_firewall(state: host_firewall.State, services: Iterable[Service]) -> Finding:
    """Whether the firewall is as its apps want it. `services`: what would be reached without it."""
    if state.open is not None:
        return Finding(OK, f"the firewall leaves open {', '.join(state.open)}")
    ports = sorted({each.name for each in services if each.name not in host_firewall.EDGE})
    says = f"other machines can reach {', '.join(ports) or 'nothing but the edge'}"
    if state.wanted:
        fix = "on the host: systemctl restart homeport-firewall; then deploy provision"
        return Finding(ERROR, f"the firewall is not in force: {says}", fix)
    return Finding(WARNING, f"there is no firewall: {says}", "hardening.firewall: true in deploy.yml; deploy provision")


def packages(_: Context) -> list[Finding]:
    """Pending upgrades, security upgrades first, and whether they are looked for."""
    plan = output("apt-get", "--simulate", "-o", "Debug::NoLocking=true", "dist-upgrade")
    updates = [path.stat().st_mtime for path in Path("/var/lib/apt/lists").glob("*Release")]
    return [of_packages(plan, time.time() - max(updates, default=0.0))]


def of_packages(plan: str, age: float) -> Finding:
    """Decides over apt-get's simulated upgrade and the age of its lists in seconds."""
    waiting = re.findall(r"^Inst (\S+) \[.*", plan, re.MULTILINE)
    security = re.findall(r"^Inst (\S+) \[[^\]]*\] \([^)]*-security", plan, re.MULTILINE)
    fix = "on the host: apt-get update && apt-get upgrade; unattended-upgrades does it daily"
    if security:
        return Finding(WARNING, f"{len(security)} security upgrades are pending: {', '.join(security[:5])}", fix)
    if age > STALE:
        return Finding(WARNING, f"no apt-get update has run in the last {STALE // 86_400} days", fix)
    return Finding(OK, f"{len(waiting) or 'no'} upgrades are pending, none for security")
