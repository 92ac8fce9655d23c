"""Pins a host's SSH key: reads it once, has a person confirm it or compares it with a fingerprint, then stores it.

No verb logs in without a pinned key. The file is beside deploy.yml and should be committed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from homeport.core.errors import ExitCode, HomeportError
from homeport.screen.screen import Screen
from homeport.ssh.connection import CONNECT_SECONDS, Target


def pin(target: Target, accept: str | None, screen: Screen, *, repin: bool = False) -> None:
    """Pin the host's key unless one is pinned already. Raises HomeportError unless a person or `accept` confirms it."""
    where = resolve(target)
    if is_pinned(target.known_hosts, where) and not repin:
        return
    kind, key = read_key(where)
    digest = fingerprint(key)
    _confirm(where[0], kind, digest, accept)
    write(target.known_hosts, where, kind, key)
    screen.say(f"pinned {digest} for {where[0]} in {target.known_hosts}: commit that file")


def resolve(target: Target) -> tuple[str, int]:
    """The address and port that ssh would connect to, after the alias, HostName and Port of ~/.ssh/config."""
    args = ["ssh", "-G", *(["-p", str(target.port)] if target.port else []), f"{target.user}@{target.host}"]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    return settings["hostname"], int(settings["port"])


def _names(where: tuple[str, int]) -> str:
    host, port = where
    return host if port == 22 else f"[{host}]:{port}"


def is_pinned(known_hosts: Path, where: tuple[str, int]) -> bool:
    """Whether a key of the host is in the file."""
    if not known_hosts.is_file():
        return False
    done = subprocess.run(["ssh-keygen", "-F", _names(where), "-f", str(known_hosts)], capture_output=True, check=False)
    return done.returncode == 0


def read_key(where: tuple[str, int]) -> tuple[str, bytes]:
    """The type and bytes of the host's current key, by a handshake without a login. Raises HomeportError."""
    import paramiko

    try:
        with socket.create_connection(where, CONNECT_SECONDS) as raw:
            transport = paramiko.Transport(raw)
            try:
                transport.start_client(timeout=CONNECT_SECONDS)
                key = transport.get_remote_server_key()
            finally:
                transport.close()
    except (OSError, EOFError, paramiko.SSHException) as error:
        what = f"cannot read the host's key: {error}"
        raise HomeportError(
            what, f"{where[0]}:{where[1]}", "check host in deploy.yml, and that the server is running"
        ) from None
    return key.get_name(), key.asbytes()


def fingerprint(key: bytes) -> str:
    """The fingerprint as ssh and providers' consoles print it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _confirm(host: str, kind: str, digest: str, accept: str | None) -> None:
    if accept is not None:
        if accept != digest:
            what = f"the host has the key {digest}, not the expected one"
            raise HomeportError(what, host, "find out why before you connect", ExitCode.PERSON)
        return
    if not sys.stdin.isatty():
        fix = f"compare it with the provider's console, then deploy setup --accept-host-key {digest}"
        raise HomeportError(f"the host's {kind} key {digest} is not pinned yet", host, fix, ExitCode.USAGE)
    print(
        f"{host} shows the {kind} key\n\n    {digest}\n\nCompare it with what the provider's console says.",
        file=sys.stderr,
    )
    if input("Is it the same? Type yes to pin it: ").strip() != "yes":
        raise HomeportError("the key was not confirmed; nothing changed", host, "deploy setup", ExitCode.FAILED)


def write(known_hosts: Path, where: tuple[str, int], kind: str, key: bytes) -> None:
    """Store the key as the only one of the host; keys of other hosts stay."""
    name = _names(where)
    lines = known_hosts.read_text().splitlines() if known_hosts.is_file() else []
    others = [line for line in lines if line.split(" ")[0] != name]
    new = known_hosts.with_suffix(known_hosts.suffix + ".new")
    with new.open("w") as out:
        out.write("\n".join([*others, f"{name} {kind} {base64.b64encode(key).decode()}"]) + "\n")
        out.flush()
        os.fsync(out.fileno())
    new.rename(known_hosts)
