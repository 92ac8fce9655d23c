"""The person and machine that deploy, as the lock and the audit record them."""

from __future__ import annotations

import getpass
import os
import re
import socket


def performer_name() -> str:
    """The person or job that deploys."""
    return _plain(os.environ.get("HOMEPORT_PERFORMER") or getpass.getuser())


def machine_name() -> str:
    """The name of this machine."""
    return _plain(socket.gethostname())


def performer_options() -> list[str]:
    """The options by which hostctl records who changes something, and from which machine."""
    return ["--who", performer_name(), "--from", machine_name()]


def _plain(text: str) -> str:
    return re.sub(r"[^\w.@+-]", "-", text)[:64] or "unknown"
