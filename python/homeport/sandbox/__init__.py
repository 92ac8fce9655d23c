"""The sandbox: a local Debian host that boots systemd, with S3 and ACME servers, in place of a rented server."""

from __future__ import annotations

from homeport.sandbox.lifecycle import DEFAULT, all_sandboxes, down, get, reboot, running, up
from homeport.sandbox.model import SUITES, Sandbox
from homeport.sandbox.network import cut

__all__ = ["DEFAULT", "SUITES", "Sandbox", "all_sandboxes", "cut", "down", "get", "reboot", "running", "up"]
