"""Units as provisioning describes them: only what differs is enabled, started or restarted."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostctl.common.errors import HostError
from hostctl.core.schema import mistakes
from hostctl.host.units import SPEC, Spec, converge


class Fake:
    """A systemd whose units are enabled and run as these sets say; `did` has what it was told to do."""

    def __init__(self, enabled: set[str] = frozenset(), runs: set[str] = frozenset(), unread: bool = False) -> None:  # type: ignore[assignment]
        self.asleep, self.up, self.changed, self.did = enabled, set(runs), unread, []  # type: ignore[var-annotated]

    def enabled(self, unit: str) -> bool:
        return unit in self.asleep

    def show(self, unit: str) -> list[Any]:
        return [SimpleNamespace(runs=unit in self.up)]

    def unread(self, *units: str) -> bool:
        self.asked = units
        return self.changed

    def daemon_reload(self) -> None:
        self.did.append("reload")

    def enable(self, *units: str) -> None:
        self.did += [f"enable {unit}" for unit in units]

    def restart_now(self, unit: str) -> None:
        self.did.append(f"restart {unit}")
        if unit != "dies.service":
            self.up.add(unit)


def spec(*units: str, check: bool = False, restarted: dict[str, list[str]] | None = None) -> Spec:
    document = Spec(enabled=[*units], started=[*units], restarted=restarted or {}, check=check)
    assert mistakes(SPEC, document) == []
    return document


def run(fake: Fake, document: Spec, starts: Path = Path("/nowhere")) -> list[str]:
    return converge(document, fake, starts)  # type: ignore[arg-type]


def test_what_is_enabled_and_runs_is_left_alone() -> None:
    fake = Fake({"a.timer"}, {"a.timer"})
    assert run(fake, spec("a.timer")) == []
    assert fake.did == []


def test_what_is_missing_is_enabled_and_started_once() -> None:
    fake = Fake(runs={"b.service"})
    assert run(fake, spec("a.timer", "b.service")) == ["a.timer", "b.service"]
    assert fake.did == ["enable a.timer", "enable b.service", "restart a.timer"]


def test_unit_files_that_systemd_has_not_read_are_read_first_also_that_of_a_timers_service() -> None:
    fake = Fake(unread=True)
    run(fake, spec("a.timer"))
    assert fake.did == ["reload", "enable a.timer", "restart a.timer"]
    assert set(fake.asked) == {"a.timer", "a.service"}


def test_a_unit_is_restarted_only_where_a_file_has_changed_since_its_start(tmp_path: Path) -> None:
    start, program = tmp_path / "invocation:b.service", tmp_path / "program"
    program.write_text("")
    start.symlink_to("x")
    wanted = spec("b.service", restarted={"b.service": [str(program)]})
    later, earlier = program.stat().st_ctime + 10, program.stat().st_ctime - 10
    for started, changed in ((later, []), (earlier, ["b.service"])):
        os.utime(start, (started, started), follow_symlinks=False)
        assert run(Fake({"b.service"}, {"b.service"}), wanted, tmp_path) == changed


def test_in_check_mode_it_is_only_told() -> None:
    fake = Fake(unread=True)
    assert run(fake, spec("a.timer", check=True)) == ["a.timer"]
    assert fake.did == []


def test_a_unit_that_ends_at_once_is_an_error() -> None:
    with pytest.raises(HostError, match="does not run after its start"):
        run(Fake(), spec("dies.service"))


@pytest.mark.parametrize("unit", ["a", "-a.service", "a b.service", "../a.service", "a.service\n"])
def test_a_name_that_is_no_units_is_refused(unit: str) -> None:
    document = {"enabled": [unit], "started": [], "restarted": {}, "check": False}
    assert mistakes(SPEC, document) == ["enabled is not valid"]
