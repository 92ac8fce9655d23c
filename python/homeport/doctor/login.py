"""Checks of the login: the pinned key, the login itself, and the login shell."""

from __future__ import annotations

import time

from homeport.doctor.context import Context
from homeport.remote import host_key
from homeport.ssh import connection
from hostctl.common.finding import ERROR, OK, WARNING, Finding, ok

# for a command over an open connection; a login shell that runs nothing takes less
SLOW_SECONDS = 1.0


def pinned_key(context: Context) -> list[Finding]:
    """Whether the host's key is pinned."""
    target = context.session.target
    if host_key.is_pinned(target.known_hosts, host_key.resolve(target)):
        return ok(f"pinned in {target.known_hosts.name}")
    return [Finding(ERROR, f"the host's key is not pinned in {target.known_hosts}", "deploy setup")]


def login(context: Context) -> list[Finding]:
    """Whether the deploy user can log in. Raises HomeportError with the reason that ssh gives."""
    target = context.session.target
    begun = time.monotonic()
    connection.run(target, ["true"])
    return ok(f"{target} in {time.monotonic() - begun:.1f} s")


def shell(context: Context) -> list[Finding]:
    """Whether the login shell runs a command fast and prints nothing of its own."""
    begun = time.monotonic()
    status, out, _ = connection.run(context.session.target, ["true"])
    return [of_shell(time.monotonic() - begun, status, out, context.session.target.user)]


def of_shell(seconds: float, status: int, out: bytes, user: str) -> Finding:
    """The finding for a run of `true`, which must be fast, succeed, and print nothing."""
    fix = f"deploy provision gives {user} /bin/sh, which reads no files; otherwise check what sshd runs at a login"
    if status:
        return Finding(ERROR, f"the login shell of {user} ends with status {status}", fix)
    if out:
        printed = out[:60].decode(errors="replace").strip()
        return Finding(ERROR, f"the login shell of {user} prints {printed!r} into every answer", fix)
    if seconds > SLOW_SECONDS:
        return Finding(WARNING, f"the login shell of {user} takes {seconds:.1f} s for every command", fix)
    return Finding(OK, f"quiet, {seconds * 1000:.0f} ms a command")
