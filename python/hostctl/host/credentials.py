"""Secrets at rest: encrypted with the host's own key, as systemd's credentials.

The key is /var/lib/systemd/credential.secret: without it, a copy of the host's files reveals no secret. It is not bound
to a TPM, whose state an update of the firmware may change, so that the app would not start again after a reboot
(systemd-creds(1), --tpm2-pcrs).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from hostctl.common.errors import HostError
from hostctl.common.files import write_atomic

LIMIT = 30.0  # seconds
AGAIN = "deploy env push brings the values again"


def seal(name: str, value: bytes) -> bytes:
    """Encrypt a value, so that it can be decrypted under this name alone. Raises HostError."""
    return _creds("encrypt", "--with-key=host", name, value)


def unseal(name: str, sealed: bytes) -> bytes:
    """Decrypt what was sealed under this name. Raises HostError for anything else."""
    return _creds("decrypt", "--quiet", name, sealed)


def write(path: Path, name: str, value: bytes) -> None:
    """Seal a value into a file that only root can read, durably. Raises HostError."""
    write_atomic(path, seal(name, value))


def read(path: Path, name: str) -> bytes:
    """The value that `write` sealed. Raises HostError, or OSError if there is no such file."""
    return unseal(name, path.read_bytes())


def _creds(verb: str, option: str, name: str, given: bytes) -> bytes:
    argv = ["systemd-creds", verb, option, f"--name={name}", "-", "-"]
    done = subprocess.run(argv, input=given, capture_output=True, timeout=LIMIT, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise HostError(f"systemd-creds cannot {verb} {name}: {said}", "/var/lib/systemd/credential.secret", AGAIN)
    return done.stdout
