"""Checks from outside the host, as a visitor: DNS, CAA records, ports, certificates."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable

from homeport.config.model import Domain
from homeport.deployment import preflight
from homeport.doctor import caa
from homeport.doctor.context import Context
from hostctl.common.finding import ERROR, OK, WARNING, Finding, skipped
from hostctl.common.net import certificate

TIMEOUT_SECONDS = 10.0
DAY = 86_400
SOON = 14 * DAY  # seconds; Caddy renews when a third of the time is left
LETS_ENCRYPT = "letsencrypt.org"
NEWER = "put a newer certificate into the file named in domains, then run: deploy certs push"
NO_DNS = "verify.address is set, so DNS does not matter"


def names(context: Context) -> list[Finding]:
    """Whether every name resolves to addresses of the host only."""
    if context.config.verify.address:
        return skipped(NO_DNS)
    host_addresses = preflight.resolve(context.address) | set((context.host or {}).get("addresses", []))
    return [of_name(domain.name, preflight.resolve(domain.name), host_addresses) for domain in context.config.domains]


def of_name(name: str, addresses: set[str], host_addresses: set[str]) -> Finding:
    """The finding for a name's A and AAAA records, compared with the host's addresses."""
    right = ", ".join(sorted(host_addresses)) or "the host's address"
    astray = sorted(addresses - host_addresses)
    if not addresses:
        return Finding(ERROR, f"{name} does not resolve: no visitor, no certificate", f"point it at {right} in DNS")
    if not astray:
        return Finding(OK, f"{name} leads to {', '.join(sorted(addresses))}")
    fix = f"point it at {right} alone; behind a proxy of your own, set verify.address"
    return Finding(ERROR, f"{name} leads to {', '.join(astray)} ({_record_types(astray)}), which is not the host", fix)


def _record_types(addresses: Iterable[str]) -> str:
    types = {"AAAA" if ":" in address else "A" for address in addresses}
    return " and ".join(sorted(types))


def authorities(context: Context) -> Iterable[Finding]:
    """Whether CAA records let Let's Encrypt certify the names. Skipped for another authority, whose name is unknown."""
    if context.config.verify.address:
        return skipped(NO_DNS)
    if context.config.acme.directory:
        return skipped("acme.directory is another authority's, whose name in DNS is not known")
    issued = [domain.name for domain in context.config.domains if not domain.certificate]
    findings = [of_authorities(name, caa.issuers(name)) for name in issued]
    return findings or skipped("every certificate is the team's own")


def of_authorities(name: str, issuers: list[str] | None) -> Finding:
    """The finding for a name's `issue` records (RFC 8659). Empty: every authority may; None: DNS did not answer."""
    if issuers is None:
        return Finding("skipped", f"DNS gives no answer about CAA of {name}")
    if not issuers or LETS_ENCRYPT in issuers:
        return Finding(OK, f"{name} may be certified by {LETS_ENCRYPT if issuers else 'anybody'}")
    allowed = ", ".join(filter(None, issuers)) or "nobody"
    return Finding(
        ERROR, f"{name} may be certified by {allowed} alone (CAA)", f'add to DNS: CAA 0 issue "{LETS_ENCRYPT}"'
    )


def ports(context: Context) -> list[Finding]:
    """Whether 80 and 443 can be reached from here."""
    return [of_port(port, context.address, preflight.is_filtered(context.address, port)) for port in preflight.PORTS]


def of_port(port: int, address: str, filtered: bool) -> Finding:
    """The finding for a port; a port that does not answer is blocked by a firewall."""
    if not filtered:
        return Finding(OK, f"{port} of {address} answers")
    return Finding(ERROR, f"{port} of {address} does not answer", "open it in the provider's firewall and the host's")


def certificates(context: Context) -> list[Finding]:
    """The certificate of every name, checked as a browser checks it."""
    root = context.loaded.path(context.config.acme.root) if context.config.acme.root else None
    return [
        _check_certificate(domain, context.address, str(root) if root else None) for domain in context.config.domains
    ]


def _check_certificate(domain: Domain, address: str, root: str | None) -> Finding:
    name = domain.name
    fix = NEWER if domain.certificate else "deploy doctor after a minute; on the host: journalctl -u caddy"
    trust = ssl.create_default_context(cafile=root)
    try:
        with (
            socket.create_connection((address, 443), TIMEOUT_SECONDS) as raw,
            trust.wrap_socket(raw, server_hostname=name) as secured,
        ):
            der = secured.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as error:
        return Finding(ERROR, f"{name}: {error.verify_message}", fix)
    except OSError as error:
        return Finding(ERROR, f"https://{name} is not served at {address}: {error}", fix)
    return of_certificate(name, certificate.not_after(der) - time.time(), own=bool(domain.certificate))


def of_certificate(name: str, left: float, *, own: bool = False) -> Finding:
    """The finding for a trusted certificate valid for `left` more seconds. Caddy does not renew an `own` one."""
    if left < SOON and own:
        return Finding(WARNING, f"{name} ends in {left / DAY:.0f} days, and it is your own", NEWER)
    if left < SOON:
        return Finding(WARNING, f"{name} ends in {left / DAY:.0f} days and is not renewed", "deploy certs renew")
    return Finding(OK, f"{name} is trusted, for {left / DAY:.0f} days")
