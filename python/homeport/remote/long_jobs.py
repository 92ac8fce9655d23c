"""Polls a long job on the host until it ends. The job needs no connection."""

from __future__ import annotations

import time
from collections.abc import Callable

from homeport.core.errors import ExitCode, HomeportError
from homeport.remote.hostctl import PATIENCE_SECONDS, Hostctl
from homeport.ssh import connection
from hostctl.common.documents import Json

POLL_SECONDS = 0.5
GRACE_SECONDS = 15.0  # within which systemd must have started the job


def follow(host: Hostctl, what: str, started: float, on_step: Callable[[str], None], of: str = "backup") -> Json:
    """The result of the job `what` (such as drill, or renew of certs), which began at `started` by the host's clock.

    A lost connection is retried for PATIENCE_SECONDS. Raises HomeportError after that, and if the job ended without a
    result.
    """
    heard = time.monotonic()
    grace = heard + GRACE_SECONDS
    while True:
        try:
            told = host.call(of, "progress")[what]
        except connection.UnreachableError as error:
            if time.monotonic() - heard > PATIENCE_SECONDS:
                raise _lost(what, error, host.where) from None
            time.sleep(POLL_SECONDS)
            continue
        heard = time.monotonic()
        result = told["result"]
        if result and result["at"] >= started and not told["running"]:
            found: Json = result
            return found
        if not told["running"] and heard > grace:
            raise HomeportError(f"the {what} ended without a result", host.where, "journalctl -u 'homeport-*' there")
        on_step(told["step"])
        time.sleep(POLL_SECONDS)


def _lost(what: str, error: HomeportError, where: str) -> HomeportError:
    text = f"lost the connection to the host ({error.what}); the {what} continues there"
    return HomeportError(text, where, "deploy backup status", ExitCode.PERSON)
