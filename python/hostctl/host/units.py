"""Units as the roles want them: enabled at boot, started, and restarted where a file is newer than their start."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.common.names import matches
from hostctl.core.schema import flag, list_of, name
from hostctl.host.systemd import Systemd

_STARTS = Path("/run/systemd/units")  # with a link for every unit that runs, made at its start (systemd.exec(5))


class Spec(TypedDict):
    """`restarted` has by unit the files whose change makes it start again. With `check` nothing is changed."""

    enabled: list[str]
    started: list[str]
    restarted: dict[str, list[str]]
    check: bool


def _files_by_unit(value: object) -> bool:
    paths = list_of(name("path"))
    return isinstance(value, dict) and all(matches("unit", unit) and paths(files) for unit, files in value.items())


SPEC: Json = {
    "enabled": list_of(name("unit")),
    "started": list_of(name("unit")),
    "restarted": _files_by_unit,
    "check": flag,
}


def converge(spec: Spec, systemd: Systemd, starts: Path = _STARTS) -> list[str]:
    """Enable, start and restart what differs. Returns the names of these units.

    Unit files that systemd has not read since they changed, it reads first. Raises HostError if systemd refuses.
    """
    named = sorted({*spec["enabled"], *spec["started"], *spec["restarted"]})
    asleep = [unit for unit in named if unit in spec["enabled"] and not systemd.enabled(unit)]
    stopped = [unit for unit in named if unit in spec["started"] and not systemd.show(unit)[0].runs]
    aged = [unit for unit, files in spec["restarted"].items() if unit not in stopped and _is_older(unit, files, starts)]
    if not spec["check"]:
        if systemd.unread(*named, *map(_triggered, named)):
            systemd.daemon_reload()
        systemd.enable(*asleep)
        _start(systemd, [*stopped, *aged])
    return sorted({*asleep, *stopped, *aged})


def _triggered(unit: str) -> str:
    """The service that a timer or path unit starts; of a service itself."""
    return f"{unit.rpartition('.')[0]}.service"


def _is_older(unit: str, files: list[str], starts: Path) -> bool:
    """Whether a file has changed since the unit was started."""
    try:
        started = (starts / f"invocation:{unit}").lstat().st_mtime
    except FileNotFoundError:
        return False  # it does not run
    return any(Path(path).stat().st_ctime > started for path in files)


def _start(systemd: Systemd, units: list[str]) -> None:
    for unit in units:
        systemd.restart_now(unit)
        if not systemd.show(unit)[0].runs:
            raise HostError(f"{unit} does not run after its start", unit, f"journalctl -u {unit}")
