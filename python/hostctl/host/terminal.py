"""Runs a program in a transient unit that is attached to a person's terminal or pipes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from hostctl.host.host import Host

# systemd 256 and later would colour the background and set the window's title
PLAIN = {"SYSTEMD_TINT_BACKGROUND": "0", "SYSTEMD_ADJUST_TERMINAL_TITLE": "0"}


def command(unit: str, argv: Sequence[str], properties: Sequence[str], tty: bool) -> list[str]:
    """The systemd-run command that attaches a unit to this process's terminal (size, colours, Ctrl-C) or pipes."""
    options = [item for line in properties for item in ("-p", line)]
    how = "--pty" if tty else "--pipe"
    return ["systemd-run", "--quiet", "--collect", "--wait", how, f"--unit={unit}", *options, "--", *argv]


def foreground(unit: str, argv: Sequence[str], properties: Sequence[str], tty: bool, host: Host) -> int:
    """Run the program to its end and return its exit status. When the person disconnects, it is stopped."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    child = subprocess.Popen(command(unit, argv, properties, tty), env={**os.environ, **PLAIN})
    try:
        if _wait_for_end(child):
            return child.wait()
        return 128 + signal.SIGHUP
    finally:
        if child.poll() is None:
            host.systemd.stop(unit)
            child.kill()
            child.wait()


def _wait_for_end(child: subprocess.Popen[bytes]) -> bool:
    """Wait for the end of the program; False when the reader of its output is gone."""
    poller = select.poll()
    pid = os.pidfd_open(child.pid)
    try:
        poller.register(pid, select.POLLIN)
        poller.register(sys.stdout.fileno(), 0)  # poll always reports hang-ups and errors
        return any(handle == pid for handle, _ in poller.poll())
    finally:
        os.close(pid)


def _exit(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
