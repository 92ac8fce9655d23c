"""Connections by the user's own OpenSSH with the project's pinned host keys; agents, jump hosts and ~/.ssh/config work.

All commands to a host, Ansible's included, share one connection (ControlMaster): a command over it takes milliseconds,
a new connection takes a handshake.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from homeport.core.errors import HomeportError

# ssh itself ends with this status when the connection, not the command, failed (ssh(1), EXIT STATUS)
CONNECTION_FAILED = 255
CONNECT_SECONDS = 10
PERSIST_SECONDS = 60


class UnreachableError(HomeportError):
    """The connection failed, not the remote command. The caller may try again if the work continues on the host."""


@dataclass(frozen=True)
class Target:
    """The host and user of a login. `port` and `key` are None if ssh's own configuration decides."""

    host: str
    user: str
    known_hosts: Path
    port: int | None = None
    key: Path | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port else "")


def control_dir() -> Path:
    """The user's private directory for control sockets. Its path is short, because a socket's path has at most 104
    bytes. Raises HomeportError if it belongs to another user.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    path = base / f"homeport-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise HomeportError(
            "the directory for SSH control sockets belongs to somebody else", str(path), f"rm -r {path}"
        )
    return path


def _control_path(target: Target) -> str:
    # the pinned keys are part of the name, so that a connection made with an old pin is not used after the pin changes;
    # %r is the login, which Ansible may change for a play
    pins = target.known_hosts.read_bytes() if target.known_hosts.is_file() else b""
    identity = f"{target.host}|{target.port}|{target.key}|{target.known_hosts}|".encode() + pins
    return f"{control_dir()}/{hashlib.sha256(identity).hexdigest()[:16]}-%r"


def options(target: Target) -> list[str]:
    """The ssh options of every connection to the target, by Ansible and by Homeport."""
    settings = {
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ControlMaster": "auto",
        "ControlPath": _control_path(target),
        "ControlPersist": f"{PERSIST_SECONDS}s",
        "ServerAliveCountMax": "3",
        "ServerAliveInterval": "5",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(target.known_hosts),
    }
    if target.key:
        settings["IdentitiesOnly"] = "yes"
    args = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    if target.port:
        args += ["-p", str(target.port)]
    if target.key:
        args += ["-i", str(target.key)]
    return args


def command(target: Target, remote: list[str], *, terminal: bool = False) -> list[str]:
    """The argument list that runs `remote` (already quoted for a shell, word by word) on the target."""
    tty = ["-t"] if terminal else ["-T"]
    return ["ssh", *tty, *options(target), f"{target.user}@{target.host}", *remote]


def run(target: Target, remote: list[str], *, stdin: bytes = b"", timeout: float = 60) -> tuple[int, bytes, bytes]:
    """Run a command; return its exit status, output and error output.

    Raises HomeportError when the connection, not the command, failed or took longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(command(target, remote), input=stdin, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"no answer within {timeout:.0f} s", str(target), f"ssh {target.user}@{target.host} true"
        ) from None
    if done.returncode == CONNECTION_FAILED:
        raise failure(str(target), done.stderr.decode(errors="replace"))
    return done.returncode, done.stdout, done.stderr


_EXPLANATIONS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host shows another key than the one pinned",
        "deploy setup --repin",
    ),
    ("Host key verification failed", "the host's key is not pinned", "deploy setup"),
    ("Permission denied", "the host refused the login", "ssh-add, or ssh.key in deploy.yml; then deploy setup"),
    ("Could not resolve hostname", "the host's name does not resolve", "correct host in deploy.yml"),
)


def failure(where: str, stderr: str) -> UnreachableError:
    """The error for a failed connection, by the cause that ssh printed."""
    for sign, what, fix in _EXPLANATIONS:
        if sign in stderr:
            return UnreachableError(what, where, fix)
    last = (stderr.strip().splitlines() or ["ssh printed nothing"])[-1]
    return UnreachableError(f"cannot reach the host: {last}", where, "check that it is up, then run this again")


def close(target: Target) -> None:
    """End the shared connection, if there is one."""
    args = ["ssh", *options(target), "-O", "exit", f"{target.user}@{target.host}"]
    subprocess.run(args, capture_output=True, check=False)
