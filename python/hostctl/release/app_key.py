"""The app's own key, from which the digests of its variables and the cookie of its nodes are made."""

from __future__ import annotations

import hashlib
import os

from hostctl.common.files import write_atomic
from hostctl.core.paths import App


def app_key(app: App) -> str:
    """The key, in hex digits, which is made when it is first needed. It never leaves the host."""
    try:
        return app.cookie.read_text()
    except FileNotFoundError:
        key = os.urandom(32).hex()
        write_atomic(app.cookie, key.encode())
        return key


def node_cookie(app: App) -> str:
    """The cookie of the app's Erlang nodes. Any user can read it there, but not compute the key from it."""
    return hashlib.sha256(f"node {app_key(app)}".encode()).hexdigest()
