"""The sandbox's network: two namespaces, each with a link to one bridge, and a route out through this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeport.core.errors import HomeportError
from homeport.sandbox import durable
from homeport.sandbox.addresses import GATEWAY, SUBNET, Slot
from homeport.sandbox.commands import has, run, succeeds
from homeport.sandbox.model import Sandbox, host_namespace, services_namespace

BRIDGE = "homeport0"
_TABLE = "homeport_sandbox"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARD_BEFORE = durable.LOCKS / "ip_forward"
_NFT_RULES = f"""
table ip {_TABLE}
delete table ip {_TABLE}
table ip {_TABLE} {{
    chain out {{
        type nat hook postrouting priority srcnat
        ip saddr {SUBNET} oifname != "{BRIDGE}" masquerade
    }}
}}
"""
_IPTABLES_RULES = (
    ("nat", "POSTROUTING", ("-s", SUBNET, "!", "-o", BRIDGE, "-j", "MASQUERADE")),
    ("filter", "FORWARD", ("-i", BRIDGE, "-j", "ACCEPT")),
    ("filter", "FORWARD", ("-o", BRIDGE, "-j", "ACCEPT")),
)


def connect(sandbox: Sandbox) -> None:
    """Create both namespaces and links, and the bridge if this is the first sandbox."""
    with durable.lock("network"):
        _make_bridge()
    slot = sandbox.slot
    _join(sandbox.namespace, slot.host_link, slot.host)
    _join(sandbox.services_namespace, slot.services_link, slot.services)


def exists(name: str) -> bool:
    """Whether a namespace of that sandbox is left."""
    return any(Path("/run/netns", namespace).exists() for namespace in _namespaces(name))


def disconnect(name: str, slot: int | None) -> None:
    """Remove both namespaces and their links, as far as they exist."""
    if slot is not None:
        for link in (Slot(slot).host_link, Slot(slot).services_link):
            succeeds("ip", "link", "delete", link)
    for namespace in _namespaces(name):
        succeeds("ip", "netns", "delete", namespace)


def remove_bridge_if_unused() -> None:
    """Remove the bridge, the route out and the changed setting, if no sandbox uses the bridge."""
    with durable.lock("network"):
        links = json.loads(run("ip", "-json", "link", "show"))
        if not any(link.get("master") == BRIDGE for link in links):
            succeeds("ip", "link", "delete", BRIDGE)
            _close_route_out()


@contextmanager
def cut(sandbox: Sandbox, what: str) -> Iterator[None]:
    """Take down the link of the "host" or of the "services" during the block, as an outage would."""
    link = sandbox.slot.host_link if what == "host" else sandbox.slot.services_link
    run("ip", "link", "set", link, "down")
    try:
        yield
    finally:
        run("ip", "link", "set", link, "up")


def _namespaces(name: str) -> tuple[str, str]:
    return host_namespace(name), services_namespace(name)


def _make_bridge() -> None:
    if not succeeds("ip", "link", "show", BRIDGE):
        run("ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
        run("ip", "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    _open_route_out()


def _join(namespace: str, link: str, address: str) -> None:
    run("ip", "netns", "add", namespace)
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    run("ip", "link", "set", link, "master", BRIDGE, "up")
    run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        run("ip", "-n", namespace, "link", "set", device, "up")
    run("ip", "-n", namespace, "route", "add", "default", "via", GATEWAY)


def _open_route_out() -> None:
    if not _FORWARD_BEFORE.exists():
        durable.write(_FORWARD_BEFORE, _FORWARD.read_text())
    _set_forwarding("1")
    if not _masquerade_by_nft():
        _iptables_add(_IPTABLES_RULES[:1])
    # a machine with Docker drops what it forwards for others, also between two ports of one bridge
    if has("iptables") and "-P FORWARD DROP" in run("iptables", "-S", "FORWARD"):
        _iptables_add(_IPTABLES_RULES[1:])


def _set_forwarding(value: str) -> None:
    if _FORWARD.read_text().strip() == value.strip():
        return
    try:
        _FORWARD.write_text(value)
    except OSError as error:
        fix = "use a machine or a virtual machine of its own, not a container"
        raise HomeportError("forwarding cannot be switched on on this machine", str(_FORWARD), fix) from error


def _masquerade_by_nft() -> bool:
    return has("nft") and succeeds("nft", "-f", "-", stdin=_NFT_RULES)


def _iptables_add(rules: tuple[tuple[str, str, tuple[str, ...]], ...]) -> None:
    for table, chain, rule in rules:
        if not succeeds("iptables", "-w", "-t", table, "-C", chain, *rule):
            run("iptables", "-w", "-t", table, "-I", chain, *rule)


def _close_route_out() -> None:
    succeeds("nft", "delete", "table", "ip", _TABLE)
    if has("iptables"):
        for table, chain, rule in _IPTABLES_RULES:
            succeeds("iptables", "-w", "-t", table, "-D", chain, *rule)
    if _FORWARD_BEFORE.exists():
        _set_forwarding(_FORWARD_BEFORE.read_text())
        _FORWARD_BEFORE.unlink()
