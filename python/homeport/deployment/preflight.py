"""Checks before the host is changed: domains, ports, the backup's bucket, and the variables that the app reads."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from homeport.config.layers import Loaded
from homeport.config.secret_names import BUCKET_KEYS
from homeport.secrets.resolve import Secrets, of_backup

PORTS = (80, 443)
TIMEOUT_SECONDS = 3.0


def domains_and_ports(loaded: Loaded) -> list[str]:
    """Warnings for domains that do not resolve to the host, and for ports that cannot be reached.

    Checked before Let's Encrypt is asked, because a refused order counts against a weekly limit.
    """
    address = loaded.config.verify.address or loaded.host_address
    hosts = resolve(address)
    domains = () if loaded.config.verify.address else (domain.name for domain in loaded.config.domains)
    closed = (port for port in PORTS if is_filtered(address, port))
    return [
        *_domain_warnings(domains, hosts),
        *(f"port {port} of {address} does not answer: Let's Encrypt needs it" for port in closed),
    ]


def backup(loaded: Loaded, secrets: Secrets) -> list[str]:
    """Warnings about the backup's bucket. Raises HomeportError for a bucket that cannot hold a backup.

    Nothing is checked if the keys are not set here: the host then keeps the keys that it has.
    """
    keys = {key: value for key, value in of_backup(loaded.config, secrets).items() if key in BUCKET_KEYS}
    if not keys or None in keys.values():
        return []
    from homeport.bucket import check  # boto3 takes a while to load
    from homeport.bucket.errors import UnreachableError

    try:
        return check.check(loaded, keys)
    except UnreachableError as error:
        # the host may reach the store all the same, and an existing host can be provisioned without it
        return [f"{error.what}; the host checks it again"]


def environment(loaded: Loaded, *, certain: bool) -> list[str]:
    """Warnings about variables that config/runtime.exs may require and that are not set.

    Raises ConfigError for a variable that is certainly required, and for a vault password in the repository. With
    `certain` False, for a release that was built elsewhere and whose source may differ, nothing is refused.
    """
    from homeport.secrets import runtime_check

    findings = [*runtime_check.unset_variables(loaded), *runtime_check.password_in_git(loaded)]
    serious = [finding for finding in findings if finding.level != "note"]
    if certain:
        runtime_check.refuse(serious)
    return [str(finding) for finding in serious]


def _domain_warnings(domains: Iterable[str], hosts: set[str]) -> Iterable[str]:
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


def is_filtered(address: str, port: int) -> bool:
    """Whether the port does not answer. A refused connection is an answer: before provisioning no server listens."""
    try:
        socket.create_connection((address, port), TIMEOUT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return False
