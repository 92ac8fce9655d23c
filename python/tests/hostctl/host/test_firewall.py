"""The firewall's rules: what is open, what is closed without asking, and what is taken back unless it is confirmed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from hostctl.common.errors import HostError
from hostctl.core import lock
from hostctl.core.paths import Layout
from hostctl.core.schema import mistakes
from hostctl.host import exposure, firewall
from hostctl.host.exposure import Service, ssh_ports, unit_of
from hostctl.host.firewall import Places, Wish, closed, is_port, opened, rules

SSHD = Service("tcp", 22, "sshd", "ssh.service")
SMTP = Service("tcp", 25, "master", "postfix.service")
OPEN = ["22/tcp", "80/tcp", "443/tcp", "443/udp"]


def wish(*names: str, enabled: bool = True) -> Wish:
    return Wish(enabled=enabled, open=list(names))


# ---------------------------------------------------------------------------------------------- rules


def test_open_are_ssh_the_edge_and_what_the_apps_that_want_a_firewall_ask_for() -> None:
    assert opened([wish("8443/tcp"), wish("51820/udp"), wish("25/tcp", enabled=False)], {2222}) == [
        *("80/tcp", "443/tcp", "2222/tcp", "8443/tcp"),
        *("443/udp", "51820/udp"),
    ]


def test_without_an_app_that_wants_one_there_is_no_firewall() -> None:
    assert opened([wish(enabled=False)], {22}) is None
    assert rules(None) == "table inet homeport\ndelete table inet homeport\n"


def test_the_rules_replace_the_table_in_one_step_and_drop_what_they_do_not_name() -> None:
    text = rules(OPEN)
    assert text.startswith(rules(None))
    assert "type filter hook input priority filter; policy drop;" in text
    assert "tcp dport { 22, 80, 443 } accept" in text
    assert "udp dport { 443 } accept" in text


@pytest.mark.parametrize(
    ("text", "good"), [("25/tcp", True), ("65535/udp", True), ("0/tcp", False), ("65536/tcp", False)]
)
def test_a_port_has_a_number_and_a_protocol(text: str, good: bool) -> None:
    assert is_port(text) is good


@pytest.mark.parametrize("text", ["25", "25/sctp", "25/tcp }; flush ruleset", "025/tcp", "25/tcp\n"])
def test_what_is_no_port_never_reaches_nft(text: str) -> None:
    assert not is_port(text)
    assert mistakes(firewall.SPEC, {"enabled": True, "open": [text]}) == ["open is not valid"]


def test_told_is_what_somebody_may_need_and_not_the_apps_nor_what_a_server_says_to_its_neighbours() -> None:
    found = [
        SSHD,
        SMTP,
        Service("udp", 5355, "systemd-resolve", "systemd-resolved.service"),
        Service("tcp", 20_001, "beam.smp", "shop@20260101T000000Z-abc.service"),
        Service("tcp", 2019, "caddy", "caddy.service"),
        Service("tcp", 6379, "redis-server", "homeport-shop-accessory-redis.service"),
        Service("tcp", 20_002, "beam.smp", "shopping@1.service"),
    ]
    assert closed(found, OPEN, ["shop"]) == [SMTP, found[-1]]
    assert closed(found, [*OPEN, "25/tcp", "20002/tcp"], ["shop"]) == []


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/ssh.service\n", "ssh.service"),
        ("0::/system.slice/system-shop.slice/shop@1.service/inner\n", "shop@1.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process_is_the_last_of_its_control_group(cgroup: str, unit: str) -> None:
    assert unit_of(cgroup) == unit


def test_ssh_has_the_ports_it_listens_on_and_those_it_is_configured_for() -> None:
    by_socket = Service("tcp", 2200, "systemd", "ssh.socket")
    assert ssh_ports([SSHD, SMTP, by_socket], "port 2222\nport x\naddressfamily any\n", "") == {22, 2200, 2222}


def test_ssh_has_the_ports_on_which_systemd_listens_for_it() -> None:
    by_init = Service("tcp", 2200, "systemd", "init.scope")
    shown = "ActiveState=active\nListen=0.0.0.0:2200 (Stream)\nListen=[::]:2201 (Stream)\nListen=/run/9 (Stream)\n"
    assert ssh_ports([by_init], "", shown) == {2200, 2201}


# ---------------------------------------------------------------------------------------------- transitions


class Machine:
    """A host whose nft, sshd and systemd only note what they are told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.loaded: list[str] = []
        self.answers: dict[str, tuple[int, str]] = {"sshd": (0, "port 22\n")}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        self.calls.append(words)
        code, out = self.answers.get(words[0], (0, ""))
        if words[:2] == ("nft", "list"):
            code = 0 if self.loaded and "chain" in self.loaded[-1] else 1
        elif words[0] == "nft" and code == 0:
            self.loaded.append(stdin)
        return subprocess.CompletedProcess(words, code, out, "refused" if code else "")

    def began_timer(self) -> bool:
        return any(words[0] == "systemd-run" for words in self.calls)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(firewall, "_run", made.run)
    monkeypatch.setattr(exposure, "services", lambda: [SSHD])
    return made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_new_rules_are_in_force_with_a_timer_that_takes_them_back_and_last_once_confirmed(
    machine: Machine, layout: Layout
) -> None:
    places = Places.of(layout)
    assert firewall.apply(layout, "shop", wish(), 60) == {"changed": True}
    assert machine.began_timer()
    assert (
        machine.calls.index(next(each for each in machine.calls if each[0] == "systemd-run")) < len(machine.calls) - 1
    )
    assert (places.candidate.exists(), places.rules.exists()) == (True, False)

    firewall.confirm(layout)

    assert (places.candidate.exists(), places.rules.read_text()) == (False, rules(OPEN))
    machine.calls.clear()
    assert firewall.apply(layout, "shop", wish(), 60) == {"changed": False}
    assert not machine.began_timer()


def test_rules_that_nobody_confirms_are_taken_back_to_those_before(machine: Machine, layout: Layout) -> None:
    firewall.apply(layout, "shop", wish(), 60)
    firewall.confirm(layout)
    firewall.apply(layout, "shop", wish("8443/tcp"), 60)

    assert firewall.undo(layout) == {"undone": True}
    assert machine.loaded[-1] == rules(OPEN)
    assert Places.of(layout).rules.read_text() == rules(OPEN)
    with pytest.raises(HostError, match="not confirmed in time"):
        firewall.confirm(layout)
    assert firewall.apply(layout, "shop", wish("8443/tcp"), 60) == {"changed": True}  # and is tried again


def test_the_first_rules_that_nobody_confirms_leave_no_firewall(machine: Machine, layout: Layout) -> None:
    firewall.apply(layout, "shop", wish(), 60)
    firewall.undo(layout)
    assert machine.loaded[-1] == rules(None)
    assert firewall.undo(layout) == {"undone": False}


def test_the_first_rules_do_not_close_what_somebody_may_need(
    machine: Machine, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "services", lambda: [SSHD, SMTP])
    with pytest.raises(HostError) as refused:
        firewall.apply(layout, "shop", wish(), 60)
    assert refused.value.code == 2
    assert "25/tcp (master)" in refused.value.what
    assert "hardening.open: [25/tcp]" in refused.value.fix
    assert (machine.loaded, list(Places.of(layout).wishes.parent.glob("**/*.json"))) == ([], [])

    assert firewall.apply(layout, "shop", wish("25/tcp"), 60) == {"changed": True}
    firewall.confirm(layout)
    firewall.apply(layout, "shop", wish(), 60)  # from now on deploy.yml says what is open


def test_nothing_is_loaded_where_no_timer_would_take_it_back(machine: Machine, layout: Layout) -> None:
    machine.answers["systemd-run"] = (1, "")
    with pytest.raises(HostError, match="runs no timer"):
        firewall.apply(layout, "shop", wish(), 60)
    assert machine.loaded == []
    assert not Places.of(layout).candidate.exists()


def test_rules_that_nft_refuses_leave_nothing_to_confirm(machine: Machine, layout: Layout) -> None:
    machine.answers["nft"] = (1, "")
    with pytest.raises(HostError, match="nft refuses"):
        firewall.apply(layout, "shop", wish(), 60)
    assert not Places.of(layout).candidate.exists()


def test_a_host_without_a_port_of_ssh_is_left_as_it_is(
    machine: Machine, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "services", lambda: [SMTP])
    machine.answers["sshd"] = (255, "")
    with pytest.raises(HostError, match="no port of SSH"):
        firewall.apply(layout, "shop", wish(), 60)
    assert machine.loaded == []


def test_an_app_that_wants_none_leaves_the_firewall_of_another(machine: Machine, layout: Layout) -> None:
    firewall.apply(layout, "shop", wish("8443/tcp"), 60)
    firewall.confirm(layout)
    assert firewall.apply(layout, "blog", wish(enabled=False), 60) == {"changed": False}
    firewall.apply(layout, "shop", wish(enabled=False), 60)
    firewall.confirm(layout)
    assert machine.loaded[-1] == rules(None)
    assert firewall.apply(layout, "shop", wish(enabled=False), 60) == {"changed": False}


def test_a_removed_app_leaves_the_firewall_and_closes_its_ports(machine: Machine, layout: Layout) -> None:
    for app, name in (("shop", "8443/tcp"), ("blog", "8444/tcp")):
        firewall.apply(layout, app, wish(name), 60)
        firewall.confirm(layout)
    firewall.forget(layout, "shop")
    assert "{ 22, 80, 443, 8444 }" in machine.loaded[-1]
    assert Places.of(layout).rules.read_text() == machine.loaded[-1]
    firewall.forget(layout, "blog")
    assert "{ 22, 80, 443 }" in machine.loaded[-1]


def test_a_removed_app_does_not_close_what_something_else_still_serves(
    machine: Machine, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    vpn = Service("udp", 51_820, exposure.KERNEL, "")
    own = Service("tcp", 8443, "beam.smp", "shop@1.service")
    monkeypatch.setattr(exposure, "services", lambda: [SSHD, vpn, own, SMTP])
    firewall.apply(layout, "shop", wish("8443/tcp", "51820/udp", "25/tcp", "9/tcp"), 60)
    firewall.confirm(layout)
    monkeypatch.setattr(exposure, "services", lambda: [SSHD, vpn, own])
    firewall.forget(layout, "shop")
    assert firewall.state(layout).open == ["22/tcp", "80/tcp", "443/tcp", "443/udp", "51820/udp"]


def test_where_no_port_of_ssh_is_found_a_removal_closes_nothing(
    machine: Machine, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    firewall.apply(layout, "shop", wish("8443/tcp"), 60)
    firewall.confirm(layout)
    loaded, kept = list(machine.loaded), Places.of(layout).rules.read_text()
    machine.answers["sshd"] = (255, "")
    monkeypatch.setattr(exposure, "services", list)
    with pytest.raises(HostError, match="no port of SSH"):
        firewall.forget(layout, "shop")
    assert (machine.loaded, Places.of(layout).rules.read_text()) == (loaded, kept)


def test_a_socket_unit_of_ssh_counts_while_it_is_active(machine: Machine, layout: Layout) -> None:
    for state, port in (("active", True), ("inactive", False)):
        machine.answers["systemctl"] = (0, f"Listen=[::]:2200 (Stream)\nActiveState={state}\n")
        firewall.apply(layout, "shop", wish(), 60)
        assert ("2200" in machine.loaded[-1]) is port


@pytest.mark.parametrize(
    ("shown", "enables"),
    [
        ("UnitFileState=enabled\nNeedDaemonReload=no\n", False),
        ("UnitFileState=enabled\nNeedDaemonReload=yes\n", True),
        ("UnitFileState=disabled\nNeedDaemonReload=no\n", True),
        ("", True),
    ],
)
def test_the_unit_is_enabled_unless_it_is(machine: Machine, layout: Layout, shown: str, enables: bool) -> None:
    machine.answers["systemctl"] = (0, shown)
    firewall.apply(layout, "shop", wish(), 60)
    assert (("systemctl", "enable", firewall.UNIT) in machine.calls) is enables
    assert (("systemctl", "daemon-reload") in machine.calls) is enables


def test_one_change_of_the_rules_at_a_time(machine: Machine, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    firewall.apply(layout, "shop", wish(), 60)
    monkeypatch.setattr(firewall, "LOCK_SECONDS", 0)
    with lock.Flock(Places.of(layout).lock), pytest.raises(HostError, match="another provisioning"):
        firewall.confirm(layout)
    assert Places.of(layout).candidate.exists()


def test_a_host_without_nftables_is_told_so_and_keeps_what_it_has(machine: Machine, layout: Layout) -> None:
    machine.answers["nft"] = (1, "")
    with pytest.raises(HostError) as refused:
        firewall.apply(layout, "shop", wish(), 60)
    assert "hardening.firewall: false" in refused.value.fix
    assert (machine.loaded, list(Places.of(layout).rules.parent.glob("*.nft"))) == ([], [])
    assert firewall.apply(layout, "shop", wish(enabled=False), 60) == {"changed": False}
    firewall.forget(layout, "shop")


def test_a_program_that_is_not_installed_says_nothing() -> None:
    assert firewall._run("homeport-no-such-program").returncode == firewall.NO_PROGRAM


def test_a_socket_that_no_process_holds_is_the_kernels(tmp_path: Path) -> None:
    head = "sl\n"
    own = "0: 00000000:{:04X} 00000000:0000 {} 0:0 0:0 0  0 0 {} 1\n"
    process = tmp_path / "self"
    for path in (process / "net", process / "ns", tmp_path / "7/fd", tmp_path / "7/net", tmp_path / "7/ns"):
        path.mkdir(parents=True)
    for each in (process, tmp_path / "7"):
        (each / "ns/net").symlink_to("net:[1]")
        (each / "net/tcp").write_text(head + own.format(2049, "0A", 5) + own.format(25, "0A", 6))
        (each / "net/udp").write_text(head + own.format(51_820, "07", 8))
    (tmp_path / "7/fd/3").symlink_to("socket:[6]")
    (tmp_path / "7/comm").write_text("master\n")
    (tmp_path / "7/cgroup").write_text("0::/system.slice/postfix.service\n")
    assert exposure.services(tmp_path) == [
        SMTP,
        Service("tcp", 2049, exposure.KERNEL, ""),
        Service("udp", 51_820, exposure.KERNEL, ""),
    ]


def test_a_table_that_somebody_has_flushed_is_loaded_again(machine: Machine, layout: Layout) -> None:
    firewall.apply(layout, "shop", wish(), 60)
    firewall.confirm(layout)
    machine.loaded.append(rules(None))
    assert firewall.apply(layout, "shop", wish(), 60) == {"changed": True}


def test_a_wish_is_kept_for_the_next_app(machine: Machine, layout: Layout, tmp_path: Path) -> None:
    firewall.apply(layout, "shop", wish("1/udp"), 60)
    path = tmp_path / "etc/homeport/firewall/apps/shop.json"
    assert json.loads(path.read_text()) == {"enabled": True, "open": ["1/udp"]}
