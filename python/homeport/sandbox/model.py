"""The public facts of a sandbox: its name, its two addresses, and the paths of its files."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport.core.errors import ExitCode, HomeportError
from homeport.sandbox.addresses import Slot

SANDBOXES = Path("/var/lib/homeport-sandbox")
SUITES = ("trixie", "bookworm")
BUCKET, REGION = "homeport", "us-east-1"
S3_PORT, S3_TLS_PORT, ACME_PORT, ACME_MANAGEMENT_PORT, DNS_PORT = 8333, 8334, 14000, 15000, 8053
MARKER = "HOMEPORT_SANDBOX"  # a variable of every process of a sandbox, by which leftovers are found
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Sandbox:
    """One sandbox. `state` was "up" or "down" when this object was made."""

    name: str
    suite: str
    slot: Slot
    state: str

    @property
    def address(self) -> str:
        """The address of the host."""
        return self.slot.host

    @property
    def services_address(self) -> str:
        """The address of S3, ACME and the DNS server."""
        return self.slot.services

    @property
    def directory(self) -> Path:
        """The directory with all files of the sandbox on this machine."""
        return SANDBOXES / self.name

    @property
    def machine(self) -> Path:
        """A directory that only root may read, with the host's tree and the services' data."""
        return self.directory / "machine"

    @property
    def tree(self) -> Path:
        """The host's root directory."""
        return self.machine / "tree"

    @property
    def namespace(self) -> str:
        """The network namespace of the host (`ip netns`)."""
        return host_namespace(self.name)

    @property
    def services_namespace(self) -> str:
        """Network namespace of the services."""
        return services_namespace(self.name)

    @property
    def key(self) -> Path:
        """The private SSH key for root on the host."""
        return self.directory / "ssh_key"

    @property
    def known_hosts(self) -> Path:
        """The file with the host's public keys, written before its first boot."""
        return self.directory / "known_hosts"

    @property
    def credentials(self) -> Path:
        """The AWS shared credentials file with the S3 access key and secret key."""
        return self.directory / "s3-credentials"

    @property
    def ca(self) -> Path:
        """The root certificate for the HTTPS of the services themselves."""
        return self.directory / "acme-ca.pem"

    @property
    def root(self) -> Path:
        """The root certificate for the certificates that the ACME authority issues."""
        return self.directory / "acme-root.pem"

    @property
    def endpoint(self) -> str:
        """The URL of the S3 server."""
        return f"http://{self.services_address}:{S3_PORT}"

    @property
    def tls_endpoint(self) -> str:
        """The URL of the same S3 server over TLS, with a certificate by the authority in `ca`."""
        return f"https://{self.services_address}:{S3_TLS_PORT}"

    @property
    def acme_directory(self) -> str:
        """The URL of the ACME directory."""
        return f"https://{self.services_address}:{ACME_PORT}/dir"

    def as_dict(self) -> dict[str, Any]:
        """What `deploy sandbox up --json` prints."""
        return {
            "name": self.name,
            "suite": self.suite,
            "state": self.state,
            "address": self.address,
            "services_address": self.services_address,
            "ssh": {"user": "root", "port": 22, "key": str(self.key), "known_hosts": str(self.known_hosts)},
            "s3": {
                "endpoint": self.endpoint,
                "tls_endpoint": self.tls_endpoint,
                "ca": str(self.ca),
                "region": REGION,
                "bucket": BUCKET,
                "credentials": str(self.credentials),
            },
            "acme": {"directory": self.acme_directory, "ca": str(self.ca), "root": str(self.root)},
        }

    def ssh_argv(self, *command: str) -> list[str]:
        """The ssh command that runs `command` as root on the host; without `command` it opens a shell."""
        options = {
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "ConnectTimeout": "5",
            "ServerAliveInterval": "5",
            "LogLevel": "ERROR",
        }
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.key), *flags, f"root@{self.address}", *command]

    def run(self, command: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the host; exit status 255 means there was no connection."""
        argv = self.ssh_argv("--", command)
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout
        )


def host_namespace(name: str) -> str:
    """Network namespace of the host of a sandbox."""
    return f"homeport-{name}"


def services_namespace(name: str) -> str:
    """Network namespace of the services of a sandbox."""
    return f"homeport-{name}.services"


def check_name(name: str) -> str:
    """The name. Raises HomeportError (usage) if it cannot be a host name and a directory name."""
    if not _NAME.fullmatch(name):
        fix = "use lower-case letters, digits and hyphens, a letter first, 31 characters at most"
        raise HomeportError(f"{name!r} cannot be the name of a sandbox", "--name", fix, ExitCode.USAGE)
    return name
