"""The firewall of a real host, seen from another network namespace: closed whatever listens, and never locked out."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from homeport import sandbox
from homeport.sandbox import Sandbox
from tests.host.support import APP, DOMAIN, Project, get, new_project, on_host, open_ports, until

ROOT_HOSTCTL = "/usr/local/lib/homeport/root-hostctl"
OPEN = [22, 80, 443]
PORT = 20_500
LISTEN = (
    "import socket, sys; family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET;"
    "server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family, dualstack_ipv6=':' in sys.argv[1]);"
    "[server.accept()[0].close() for _ in iter(int, 1)]"
)


@pytest.fixture(scope="module")
def app(live: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app's project on the host, where it is live."""
    return new_project(tmp_path_factory.mktemp("firewall") / "project", live)


@contextmanager
def listening(box: Sandbox, address: str, port: int, user: str = "root") -> Iterator[None]:
    """A program of a user that accepts every connection."""
    unit = f"listener-{port}"
    words = f"--uid={user} -p Type=exec /usr/bin/python3 -c {shlex.quote(LISTEN)} {address} {port}"
    on_host(box, f"systemd-run -q --collect --unit={unit} {words}")
    until(lambda: on_host(box, f"ss -Hltn sport = :{port}") != "", "the program listens")
    try:
        yield
    finally:
        on_host(box, f"systemctl stop {unit}.service")


def answers(address: str, port: int) -> bool:
    """Whether a connection from this machine succeeds."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def link_local(box: Sandbox) -> str:
    """The host's IPv6 address on the link to this machine, with the interface on which it is reached from here."""
    found = re.search(r"inet6 (fe80:[0-9a-f:]+)/", on_host(box, "ip -6 address show scope link"))
    assert found
    route = subprocess.run(["ip", "route", "get", box.address], capture_output=True, text=True, check=True).stdout
    device = re.search(r" dev (\S+)", route)
    assert device
    return f"{found[1]}%{device[1]}"


def table(box: Sandbox) -> str:
    return on_host(box, "nft list table inet homeport || true")


def test_whatever_an_app_binds_other_machines_reach_ssh_and_the_edge_and_nothing_else(app: Project) -> None:
    with listening(app.box, "::", PORT, APP):
        assert on_host(app.box, f"exec 3<>/dev/tcp/127.0.0.1/{PORT} && echo reached") == "reached"
        assert open_ports(app.box.address) == OPEN
        six = link_local(app.box)
        assert [port for port in (*OPEN, PORT) if answers(six, port)] == OPEN


def test_without_the_firewall_the_same_program_is_reached(app: Project) -> None:
    on_host(app.box, "nft delete table inet homeport")
    try:
        with listening(app.box, "::", PORT, APP):
            assert answers(app.box.address, PORT)
            assert answers(link_local(app.box), PORT)
        told = json.loads(app.deploy("doctor", "--json", check=False).out)
        assert "the firewall is not in force" in json.dumps(told)
    finally:
        on_host(app.box, "systemctl restart homeport-firewall.service")
    assert "policy drop" in table(app.box)


def test_a_port_of_deploy_yml_is_open_and_closed_again_with_it_and_no_other_table_is_touched(app: Project) -> None:
    own = "table inet somebody { chain own { type filter hook input priority 1; }; }"
    on_host(app.box, f"nft '{own}'")
    try:
        with listening(app.box, "0.0.0.0", 8443):
            assert not answers(app.box.address, 8443)
            app.configure(hardening={"open": [8443]})
            app.deploy("provision")
            assert answers(app.box.address, 8443)
            app.configure(hardening={})
            app.deploy("provision")
            assert not answers(app.box.address, 8443)
        assert "chain own" in on_host(app.box, "nft list table inet somebody")
    finally:
        on_host(app.box, "nft delete table inet somebody")


def test_rules_that_no_new_connection_confirms_are_taken_back_by_the_host(app: Project) -> None:
    before = table(app.box)
    wish = json.dumps({"enabled": True, "open": ["9/tcp"]})
    on_host(app.box, f"echo '{wish}' | {ROOT_HOSTCTL} host firewall apply {APP} 5")
    on_host(app.box, "nft insert rule inet homeport input tcp dport 22 drop")  # wrong as can be
    assert not answers(app.box.address, 22)
    until(lambda: answers(app.box.address, 22), "the host has taken the rules back", 30)
    assert table(app.box) == before


def test_a_host_whose_kernel_has_no_nftables_is_told_so_before_anything_of_the_app_changes(app: Project) -> None:
    box = app.box
    before = on_host(box, f"cat /etc/homeport/{APP}/app.json")
    on_host(box, "nft delete table inet homeport; rm -r /etc/homeport/firewall")
    on_host(box, "mv /usr/sbin/nft /usr/sbin/nft.there && printf '#!/bin/sh\nexit 1\n' >/usr/sbin/nft")
    on_host(box, "chmod 755 /usr/sbin/nft")
    try:
        app.configure(hardening={}, env={"clear": {"AFTER": "1"}})
        refused = app.deploy("provision", check=False)
        assert refused.code != 0
        assert "nft refuses the rules" in refused.err
        assert "hardening.firewall: false" in refused.err
        assert on_host(box, f"cat /etc/homeport/{APP}/app.json") == before
        assert "No such file" in on_host(box, "ls /etc/homeport/firewall/rules.nft 2>&1 || true")
        app.configure(hardening={"firewall": False})
        app.deploy("provision")
    finally:
        on_host(box, "mv /usr/sbin/nft.there /usr/sbin/nft")
    assert table(box) == ""
    app.configure(hardening={})  # the next test provisions it


def test_the_first_firewall_of_a_host_does_not_close_what_somebody_may_need(app: Project) -> None:
    on_host(app.box, "nft delete table inet homeport; rm -r /etc/homeport/firewall")
    with listening(app.box, "0.0.0.0", 2525):
        refused = app.deploy("provision", check=False)
        assert refused.code == 2
        assert "2525/tcp (python3)" in refused.err
        assert "hardening.open: [2525/tcp]" in refused.err
        assert answers(app.box.address, 2525)
        assert "policy" not in table(app.box)
    app.deploy("provision")
    assert "policy drop" in table(app.box)


def test_debians_own_unit_that_empties_the_ruleset_leaves_both_its_rules_and_the_firewall(app: Project) -> None:
    box = app.box
    somebody = "flush ruleset\ntable inet somebody {\n chain own { type filter hook input priority 1; }\n}\n"
    on_host(box, "cp -a /etc/nftables.conf /root/nftables.conf")
    on_host(box, f"printf %s {shlex.quote(somebody)} >/etc/nftables.conf && systemctl enable --now nftables")
    try:
        for again in ("restart", "reload"):
            on_host(box, f"systemctl {again} nftables")
            until(lambda: "policy drop" in table(box), "the firewall is loaded again")
            assert "chain own" in on_host(box, "nft list table inet somebody")
        sandbox.reboot(box.name)
        assert "policy drop" in table(box)
        assert "chain own" in on_host(box, "nft list table inet somebody")
    finally:
        on_host(box, "systemctl disable nftables; mv /root/nftables.conf /etc/nftables.conf")
        on_host(box, "nft delete table inet somebody")


def test_after_a_reboot_the_firewall_is_in_force(app: Project) -> None:
    sandbox.reboot(app.box.name)
    assert "policy drop" in table(app.box)
    assert on_host(app.box, "systemctl is-active homeport-firewall.service") == "active"
    until(lambda: _serves(app), "the app serves again")
    assert open_ports(app.box.address) == OPEN


def _serves(app: Project) -> bool:
    try:
        return get(app, "/health", DOMAIN).status == 200
    except OSError:
        return False
