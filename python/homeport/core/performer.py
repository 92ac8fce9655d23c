"""Who deploys, and from where, as the lock and the audit name them."""

from __future__ import annotations

import getpass
import os
import re
import socket


def who() -> str:
    """The person or job that deploys."""
    return _plain(os.environ.get("HOMEPORT_PERFORMER") or getpass.getuser())


def here() -> str:
    """The machine it is done from."""
    return _plain(socket.gethostname())


def _plain(text: str) -> str:
    return re.sub(r"[^\w.@+-]", "-", text)[:64] or "unknown"
