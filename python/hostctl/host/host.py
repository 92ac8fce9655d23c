"""All side effects of a transition on the host except files; tests substitute a fake."""

from __future__ import annotations

import time

from hostctl.common.net import http
from hostctl.host import listeners, ports
from hostctl.host.systemd import Systemd


class Host:
    """The real host."""

    def __init__(self) -> None:
        self.systemd = Systemd()

    def get(self, port: int, host: str, path: str, timeout: float, tls: bool = False) -> http.Answer:
        return http.get(port, host, path, timeout, tls)

    def listener(self, unit: str, port: int) -> str:
        """Whose a port is: OWN of the unit, FOREIGN, or NOBODY (hostctl.host.listeners)."""
        return listeners.holder(port, self.systemd.control_group(unit))

    def connections(self, port: int) -> int:
        return ports.connections(port)

    def usable(self, port: int) -> bool:
        return ports.usable(port)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def clock(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()


def wait_for_silence(host: Host, port: int, longest: float, poll: float) -> int:
    """Wait until no connection to the port is open, checking every `poll` seconds.

    Returns the number of connections that are still open after `longest` seconds.
    """
    begun = host.clock()
    while left := host.connections(port):
        if host.clock() - begun >= longest:
            return left
        host.sleep(poll)
    return 0
