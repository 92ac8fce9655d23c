"""What is told of a host's system, room, clock, units and packages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import HostError
from hostctl.common.finding import ERROR, OK, WARNING, ok, run_check
from hostctl.doctor import machine
from hostctl.host.exposure import Service
from hostctl.host.firewall import State

GB, MB = 10**9, 10**6
DEBIAN = {"ID": "debian", "VERSION_ID": "13", "PRETTY_NAME": "Debian GNU/Linux 13 (trixie)"}
PLAN = """\
NOTE: This is only a simulation!
Inst base-files [13.8] (13.8+deb13u1 Debian:13.1/stable [amd64])
Inst libssl3t64 [3.5.1-1] (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])
Inst linux-image-6.12.48 (6.12.48-1 Debian:13.1/stable [amd64])
Conf libssl3t64 (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])
"""


def space(free: int, total: int = 100 * GB, inodes_free: int = 900, inodes: int = 1000) -> dict[str, Any]:
    return {"free": free, "total": total, "inodes_free": inodes_free, "inodes": inodes}


@pytest.mark.parametrize(
    ("release", "architecture", "state"),
    [
        (DEBIAN, "x86_64", OK),
        ({**DEBIAN, "VERSION_ID": "12"}, "aarch64", OK),
        ({**DEBIAN, "VERSION_ID": "11"}, "x86_64", ERROR),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, "x86_64", ERROR),
        ({}, "x86_64", ERROR),
        (DEBIAN, "riscv64", ERROR),
    ],
)
def test_only_debian_12_and_13_on_the_two_architectures_are_known(
    release: dict[str, str], architecture: str, state: str
) -> None:
    assert machine.of_system(release, architecture).state == state


@pytest.mark.parametrize(
    ("told", "size", "files", "state", "says"),
    [
        (space(50 * GB), 100 * MB, 1, OK, "room for hundreds of more pushes"),
        (space(50 * GB), 0, 0, OK, "50.0 GB and 90 % of the inodes free"),
        (space(50 * GB), 12 * GB, 1, WARNING, "room for 2 more pushes"),
        (space(50 * GB), 30 * GB, 1, ERROR, "room for 0 more pushes"),
        (space(50 * GB), 1, 400, WARNING, "room for 2 more pushes"),
        (space(8 * GB), 1, 1, WARNING, "8.0 GB"),
        (space(1 * GB), 1, 1, ERROR, "1.0 GB"),
        (space(50 * GB, inodes_free=0, inodes=0), 100 * MB, 500, OK, "room for hundreds"),
        (space(0, inodes_free=0), 10, 1, ERROR, "0.0 GB"),
    ],
)
def test_the_disk_is_told_in_pushes_that_still_fit(
    told: dict[str, Any], size: int, files: int, state: str, says: str
) -> None:
    found = machine.of_disk(told, size, files)
    assert (found.state, says in found.says) == (state, True), found


@given(
    st.integers(0, 10**13), st.integers(1, 10**13), st.integers(0, 10**8), st.integers(0, 10**8),
    st.integers(0, 10**12), st.integers(0, 10**7),
)  # fmt: skip
def test_no_disk_and_no_release_makes_the_forecast_itself_fail(
    free: int, total: int, inodes_free: int, inodes: int, size: int, files: int
) -> None:
    assert machine.of_disk(space(free, total, inodes_free, inodes), size, files).state in (OK, WARNING, ERROR)


def test_a_restore_needs_room_beside_the_live_database() -> None:
    assert machine.of_database_disk(space(13 * GB), 10 * GB).state == OK
    assert machine.of_database_disk(space(11 * GB), 10 * GB).state == WARNING


@pytest.mark.parametrize(("available", "state"), [(300 * MB, OK), (210 * MB, WARNING), (199 * MB, ERROR)])
def test_a_push_needs_memory_for_two_instances(available: int, state: str) -> None:
    assert machine.of_memory(200 * MB, available).state == state


@pytest.mark.parametrize(("told", "state"), [("yes", OK), ("no", WARNING), ("", WARNING)])
def test_a_clock_that_nobody_keeps_right_is_told(told: str, state: str) -> None:
    assert machine.of_time_sync(told).state == state


def test_failed_units_of_the_app_and_the_edge_are_errors_and_those_of_others_are_not() -> None:
    found = machine.of_units(
        ["caddy.service", "homeport-shop-drill.service", "shop@1.service", "man-db.service"], "shop"
    )
    assert [one.state for one in found] == [ERROR, ERROR, ERROR, WARNING]
    assert machine.of_units([], "shop")[0].state == OK


@pytest.mark.parametrize(
    ("asked", "running", "kernels", "state"),
    [
        (False, "6.12.9-amd64", ["6.12.9-amd64"], OK),
        (False, "6.12.9-amd64", ["6.12.9-amd64", "6.12.10-amd64"], WARNING),
        (False, "6.12.10-amd64", ["6.12.9-amd64", "6.12.10-amd64"], OK),
        (True, "6.12.9-amd64", ["6.12.9-amd64"], WARNING),
        (False, "5.15.0-of-the-provider", [], OK),
        (False, "5.15.0-of-the-provider", ["6.12.9-amd64"], OK),
    ],
)
def test_a_reboot_is_pending_when_a_newer_kernel_waits_or_a_package_asks(
    asked: bool, running: str, kernels: list[str], state: str
) -> None:
    assert machine.of_reboot(asked, running, kernels).state == state


def test_a_firewall_is_well_where_it_is_in_force_and_told_where_it_is_missing() -> None:
    found = [Service("tcp", 80, "caddy", "caddy.service"), Service("tcp", 20_001, "beam.smp", "shop@1.service")]
    assert machine.of_firewall(State(True, ["22/tcp", "80/tcp"]), found) == (
        OK,
        "the firewall leaves open 22/tcp, 80/tcp",
        "",
    )
    missing = machine.of_firewall(State(True, None), found)
    assert (missing.state, "can reach 20001/tcp" in missing.says) == (ERROR, True)
    unwanted = machine.of_firewall(State(False, None), found)
    assert (unwanted.state, "there is no firewall" in unwanted.says) == (WARNING, True)


def test_upgrades_of_security_are_told_by_name() -> None:
    found = machine.of_packages(PLAN, 3600)
    assert (found.state, found.says) == (WARNING, "1 security upgrades are pending: libssl3t64")
    without = "".join(line for line in PLAN.splitlines(keepends=True) if "ssl" not in line)
    assert machine.of_packages(without, 3600) == (OK, "1 upgrades are pending, none for security", "")


def test_a_host_that_asks_nobody_for_upgrades_is_told() -> None:
    assert machine.of_packages("", 15 * 86_400).state == WARNING


def test_what_one_check_trips_over_is_a_finding_and_no_end() -> None:
    def refused() -> Any:
        raise HostError("no bucket", "s3", "make one")

    def broken() -> Any:
        raise KeyError("x")

    assert run_check("store", refused) == [{"check": "store", "state": ERROR, "says": "no bucket", "fix": "make one"}]
    assert run_check("units", broken)[0]["state"] == WARNING
    assert run_check("good", lambda: ok("fine"))[0]["says"] == "fine"
