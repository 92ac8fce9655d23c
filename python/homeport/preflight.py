"""Checks of the outside world before Let's Encrypt is asked: a refused order counts against a weekly limit."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from homeport.config import Loaded

PORTS = (80, 443)
TIMEOUT_SECONDS = 3.0


def names(loaded: Loaded) -> list[str]:
    """Warnings for names that do not lead to the host, and ports of it that nobody can reach."""
    address = loaded.config.verify.address or loaded.host_address
    hosts = resolve(address)
    found = [] if loaded.config.verify.address else list(_astray((d.name for d in loaded.config.domains), hosts))
    return found + [
        f"port {port} of {address} does not answer: Let's Encrypt needs it" for port in PORTS if filtered(address, port)
    ]


def _astray(domains: Iterable[str], hosts: set[str]) -> Iterable[str]:
    for name in domains:
        addresses = resolve(name)
        if not addresses:
            yield f"{name} does not resolve: point it at the host in DNS, or its certificate cannot be had"
        elif not addresses & hosts:
            yield f"{name} leads to {', '.join(sorted(addresses))}, which is not the host: no certificate can be had"


def resolve(name: str) -> set[str]:
    """The addresses of a name; empty when it has none."""
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def filtered(address: str, port: int) -> bool:
    """Whether packets to the port vanish. A refusal is an answer: before the first provisioning nobody listens."""
    try:
        socket.create_connection((address, port), TIMEOUT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return False
