"""For every test: signals as a terminal would have them, and a key of the tests' own for what is sealed."""

from __future__ import annotations

import base64
import signal

import pytest

from hostctl.core.errors import HostError
from hostctl.host import credentials


def pytest_configure() -> None:
    # what a shell starts in the background ignores Ctrl-C, and so would everything that is started from here
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def key_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-creds needs root and a key of this machine: tests of a host have the real one."""
    monkeypatch.setattr(credentials, "_creds", _creds)


def _creds(verb: str, option: str, name: str, given: bytes) -> bytes:
    head = f"for {name}:".encode()
    if verb == "encrypt":
        return head + base64.b64encode(given)
    if not given.startswith(head):
        raise HostError(f"systemd-creds cannot decrypt {name}", "", credentials.AGAIN)
    return base64.b64decode(given.removeprefix(head))
