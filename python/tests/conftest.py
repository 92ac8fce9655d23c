"""For every test: signals as a terminal would have them."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # what a shell starts in the background ignores Ctrl-C, and so would everything that is started from here
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
